//! Optional plugins that want what they cannot have beside others: they are left out, and nobody else is.

use std::collections::BTreeSet;

use super::tests_audit::records;
use super::tests_points::{pairs, remembered, steps, with};
use super::tests_support::User;
use super::*;
use crate::report::{Explain, Kind};
use crate::wire::rpc::{HookEntry, HookPoint, HookState};

const OPTIONAL: &str = "failure = 'optional'";

/// A user with these plugins of one kind, and whether each is optional.
fn user(name: &str, plugins: &[(&str, bool)]) -> User {
    let user = User::new();
    for (id, optional) in plugins {
        let line = if *optional { OPTIONAL } else { "" };
        let edit = |manifest: String| {
            // A plugin that is required anywhere is never switched off.
            HookPoint::ALL.into_iter().fold(manifest, |text, point| with(point, line)(text))
        };
        user.install(&user.settings.standard_folder, name, id, edit);
    }
    user
}

/// Two plugins that write one path.
fn writers(one: bool, two: bool, path: &str) -> User {
    let plugins = [("one", one), ("two", two)];
    let mut user = user("hostile", &plugins);
    for (id, _) in plugins {
        user.set(id, "misbehaviour", "write");
        user.set(id, "path", path);
    }
    user
}

fn failure<'a>(outcomes: &'a [HookOutcome], id: &str) -> Option<&'a str> {
    let outcome = outcomes.iter().find(|outcome| outcome.plugin.as_str() == id);
    outcome.expect("it ran").failure.as_deref()
}

#[tokio::test]
async fn of_two_that_write_one_path_the_optional_one_is_left_out() {
    for (one, two, loser) in [(false, true, "two"), (true, false, "one"), (true, true, "two")] {
        let user = writers(one, two, "allowed/file");
        let host = user.host().await;
        let run = host.prepare_work_disk(&user.inputs).await.expect("it starts");
        assert_eq!(run.plan.steps.len(), 1);
        let winner = if loser == "one" { "two" } else { "one" };
        assert_eq!(failure(&run.hooks, winner), None);
        let expected = format!(
            "`{loser}`, which is optional, was left out: plugins `one` and `two` both want to write `allowed/file`: "
        );
        let told = failure(&run.hooks, loser).expect("it is told");
        assert!(told.starts_with(&expected) && told.contains("after = [\"one\"]"), "{told}");
        let lost = run.hooks.iter().find(|outcome| outcome.plugin.as_str() == loser);
        let lost = lost.expect("it ran");
        assert!(lost.steps.is_empty() && lost.for_user() == [told]);
        let dropped = records(&host).await.into_iter().filter_map(|record| match record.entry {
            HookEntry::Dropped { runs } => Some(runs),
            _ => None,
        });
        assert_eq!(dropped.collect::<Vec<_>>(), [[if loser == "one" { 1 } else { 2 }]]);
    }
    let user = writers(false, false, "allowed/a\nhint: b");
    let error = user.run().await.expect_err("both are required");
    assert_eq!(error.kind(), Kind::Failed);
    let text = error.to_string();
    assert!(text.ends_with("both want to write `allowed/a\\nhint: b`"), "{text}");
}

#[tokio::test]
async fn what_is_left_out_counts_as_a_failure_and_a_good_run_ends_the_count() {
    let mut user = writers(false, true, "allowed/file");
    let host = user.host().await;
    let state = async || {
        let hooks = host.list().await.expect("listed");
        hooks.into_iter().find(|hook| hook.plugin.as_str() == "two").expect("there").state
    };
    for path in ["allowed/file", "allowed/file", "allowed/other", "allowed/file", "allowed/file"] {
        user.set("two", "path", path);
        host.prepare_work_disk(&user.inputs).await.expect("it starts");
        assert_eq!(state().await, HookState::Active, "never three in a row");
    }
    user.inputs.purpose = Purpose::Look;
    host.prepare_work_disk(&user.inputs).await.expect("somebody looks");
    assert_eq!(state().await, HookState::Active, "looks do not count");
    user.inputs.purpose = Purpose::Act;
    host.prepare_work_disk(&user.inputs).await.expect("it starts");
    assert_eq!(state().await, HookState::Off);
}

#[tokio::test]
async fn wishes_against_others_and_beyond_what_a_vm_can_have_are_left_out() {
    let point = HookPoint::ConfigureMachine;
    let long = format!("label every/long={}", "x".repeat(300));
    let forty = |id: &str| (0..40).map(|n| format!("label every/{id}-{n}=x")).collect::<Vec<_>>();
    let (some, more) = (forty("some"), forty("more"));
    let same = vec!["env EVERY_A=2".to_owned(), "label every/own=x".to_owned()];
    for (of_two, expected) in [
        (same, "both want to set the variable `EVERY_A`"),
        (vec![long], "`two` asks for what a VM cannot have: `every/long` cannot be one"),
        (more, "`two` asks for what a VM cannot have: 80 labels are too many"),
    ] {
        for optional in [true, false] {
            let mut user = user("every-hook", &[("one", false), ("two", optional)]);
            let of_one = [some.as_slice(), &["env EVERY_A=1".to_owned()]].concat();
            for (id, wishes) in [("one", &of_one), ("two", &of_two)] {
                let wishes: Vec<_> = wishes.iter().map(String::as_str).collect();
                steps(&mut user, id, point, &wishes);
            }
            let configured = user.host().await.configure_machine(&user.inputs).await;
            if optional {
                let (asked, outcomes) = configured.expect("it starts");
                assert_eq!((asked.env, asked.labels.len()), (pairs(&[("EVERY_A", "1")]), 40));
                let told = failure(&outcomes, "two").expect("it is told");
                assert!(told.contains(expected), "{told}");
                assert_eq!(outcomes[1].asked, Asked::default());
            } else {
                let error = configured.expect_err("it is required");
                assert!(error.to_string().contains(expected), "{error}");
                assert!(error.hint().is_some());
            }
        }
    }
}

/// What a plugin that is left out wanted to remember is not kept either.
#[tokio::test]
async fn what_is_left_out_is_left_out_as_a_whole() {
    let point = HookPoint::PrepareWorkDisk;
    let mut user = user("every-hook", &[("one", false), ("two", true)]);
    for id in ["one", "two"] {
        steps(&mut user, id, point, &["write every-hook/x=1", "count calls"]);
    }
    user.run().await.expect("it starts");
    let kept: BTreeSet<_> =
        ["one", "two"].into_iter().filter(|id| !remembered(&user, id).is_empty()).collect();
    assert_eq!(kept, BTreeSet::from(["one"]));
}
