//! Every hook point through the host's own interface, with the plugin `every-hook`, whose settings say what
//! it does at each.

use std::collections::BTreeMap;

use super::memory::Memory;
use super::tests_programs::Guest;
use super::tests_support::User;
use super::*;
use crate::egress::Mode;
use crate::id::PluginId;
use crate::report::{Explain, Kind};
use crate::wire::rpc::{HookPoint, NetMode, Verdict};

pub(super) const ID: &str = "every-hook";

/// A user with the plugin under these ids, which has all it asks for.
pub(super) fn user(ids: &[&str]) -> User {
    let user = User::new();
    for id in ids {
        edit(&user, id, |manifest| manifest);
    }
    user
}

/// The plugin again, with another manifest.
pub(super) fn edit(user: &User, id: &str, edit: impl Fn(String) -> String) {
    user.install(&user.settings.standard_folder, ID, id, edit);
}

/// The manifest with a line more for one hook point.
pub(super) fn with(point: HookPoint, line: &str) -> impl Fn(String) -> String {
    let (table, line) = (format!("[hooks.{point}]"), line.to_owned());
    move |manifest| manifest.replace(&table, &format!("{table}\n{line}"))
}

/// What a plugin does at a hook point.
pub(super) fn steps(user: &mut User, id: &str, point: HookPoint, steps: &[&str]) {
    let id: PluginId = id.parse().expect("an id");
    let steps: Vec<_> = steps.iter().map(|step| toml::Value::from(*step)).collect();
    user.inputs.settings.entry(id).or_default().insert(point.to_string(), steps.into());
}

/// What a plugin remembers, as texts.
pub(super) fn remembered(user: &User, id: &str) -> BTreeMap<String, String> {
    let memory = Memory::new(user.settings.state_folder.clone());
    let values = memory.load(&id.parse().expect("an id")).expect("readable");
    let text = |bytes| String::from_utf8(bytes).expect("a text");
    values.into_iter().map(|(key, value)| (key, text(value))).collect()
}

pub(super) fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn preflight_tells_the_user_or_refuses() {
    let mut user = user(&[ID]);
    let long = format!("say {}", "x".repeat(4096));
    let mut lines = vec!["say mind \u{1b}[2Jthe gap", long.as_str()];
    lines.resize(20, "say more");
    steps(&mut user, ID, HookPoint::Preflight, &lines);
    let outcomes = user.host().await.preflight(&user.inputs).await.expect("it may start");
    let [outcome] = outcomes.as_slice() else { panic!("one plugin: {outcomes:?}") };
    assert_eq!((outcome.point, outcome.lines.len()), (HookPoint::Preflight, limits::ANSWERS));
    assert_eq!(outcome.lines[0], "mind \\u{1b}[2Jthe gap");
    assert!(outcome.lines[1].chars().count() == limits::LOG_LINE_BYTES + 1);
    assert_eq!(outcome.for_user(), outcome.lines);

    steps(&mut user, ID, HookPoint::Preflight, &["fail start your VPN first"]);
    let host = user.host().await;
    let refused = host.preflight(&user.inputs).await.expect_err("it may not");
    let text = "plugin `every-hook` failed in hook `preflight`: start your VPN first (asked-for)";
    assert_eq!((refused.to_string().as_str(), refused.kind()), (text, Kind::Failed));
    edit(&user, ID, with(HookPoint::Preflight, "failure = 'optional'"));
    let outcomes = host.preflight(&user.inputs).await.expect("it is optional");
    assert_eq!(outcomes[0].failure.as_deref(), Some(text));
}

#[tokio::test]
async fn hooks_that_change_nothing_run_at_the_same_time() {
    let mut user = user(&["one", "two"]);
    for id in ["one", "two"] {
        steps(&mut user, id, HookPoint::Preflight, &["spin"]);
        steps(&mut user, id, HookPoint::Doctor, &["spin"]);
        edit(&user, id, with(HookPoint::Preflight, "failure = 'optional'"));
    }
    let host = user.host().await;
    host.check().await.expect("both can run");
    for point in [HookPoint::Preflight, HookPoint::Doctor] {
        let began = std::time::Instant::now();
        let outcomes = match point {
            HookPoint::Preflight => host.preflight(&user.inputs).await,
            _ => host.doctor(&user.inputs).await,
        };
        let (took, outcomes) = (began.elapsed(), outcomes.expect("neither has to succeed"));
        let each: std::time::Duration = outcomes.iter().map(|outcome| outcome.used.wall).sum();
        assert!(outcomes.iter().all(|outcome| outcome.failure.is_some()), "{outcomes:?}");
        // One after the other they would take at least as long as the two together.
        assert!(took < each, "{point}: {took:?} of {each:?}");
    }
}

#[tokio::test]
async fn a_machine_gets_what_is_granted_and_no_more() {
    let mut user = user(&[ID]);
    let wishes = [
        "env EVERY_A=s3cret",
        "label every/one=1",
        "try env OTHER=x",
        "try env PATH=/tmp",
        "try env LD_PRELOAD=x",
        "try label other=x",
        "try forward 1080:8080",
        "try forward 1080:22",
        "try forward 1023:8080",
        "try egress a.example",
        "try egress evil.test",
        "try egress *.example",
        "try egress 10.0.0.1",
        "try egress a.example:80-90",
    ];
    steps(&mut user, ID, HookPoint::ConfigureMachine, &wishes);
    // Not even a plugin that may set every variable may set these.
    edit(&user, ID, |manifest| manifest.replace("EVERY_*", "*"));
    steps(&mut user, ID, HookPoint::ConfigureMachine, &wishes[3..5]);
    let host = user.host().await;
    let (asked, outcomes) = host.configure_machine(&user.inputs).await.expect("it may ask");
    assert_eq!((asked, outcomes[0].for_user().len()), (Asked::default(), 2));

    edit(&user, ID, |manifest| manifest);
    steps(&mut user, ID, HookPoint::ConfigureMachine, &wishes);
    let (asked, outcomes) = host.configure_machine(&user.inputs).await.expect("it may ask");
    assert_eq!(asked.env, pairs(&[("EVERY_A", "s3cret")]));
    assert_eq!(asked.labels, pairs(&[("every/one", "1")]));
    let said = outcomes[0].for_user();
    for (said, expected) in said.iter().zip([
        "not-granted: `machine.env:OTHER` is not granted",
        "bad-argument: no plugin may set `PATH`: it says how programs are found, loaded or started",
        "bad-argument: no plugin may set `LD_PRELOAD`: it says how programs are found, loaded or started",
        "not-granted: `machine.label:other` is not granted",
        "not-granted: `machine.forward:22` is not granted",
        "bad-argument: a plugin cannot have port 1023 of the host: only those from 1024 on",
        "not-granted: `machine.egress:evil.test` is not granted",
        "bad-argument: `*.example` is not one full name, as `example.org` or `example.org:443`",
        "bad-argument: `10.0.0.1` is not one full name, as `example.org` or `example.org:443`",
        "bad-argument: `a.example:80-90` is not one full name, as `example.org` or `example.org:443`",
    ]) {
        assert_eq!(said, expected);
    }
    assert_eq!(said.len(), 10);
    assert_eq!(names(&asked), ["a.example"]);
    assert_eq!(asked.forwards, [(1080, 8080)].into());
    assert_eq!(asked.published()[0].to_string(), "127.0.0.1:1080:8080");
    let shown = format!("{:?}", asked.shown());
    assert!(shown.contains("EVERY_A") && !shown.contains("s3cret"), "{shown}");

    steps(&mut user, ID, HookPoint::ConfigureMachine, &["env EVERY_A=1", "fail no"]);
    edit(&user, ID, with(HookPoint::ConfigureMachine, "failure = 'optional'"));
    let (asked, outcomes) = host.configure_machine(&user.inputs).await.expect("it is optional");
    assert!(asked == Asked::default() && outcomes[0].failure.is_some(), "dropped as a whole");
}

fn names(asked: &Asked) -> Vec<String> {
    asked.egress.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn nothing_is_opened_where_the_policy_is_closed() {
    let mut user = user(&[ID]);
    steps(&mut user, ID, HookPoint::ConfigureMachine, &["try egress a.example"]);
    let host = user.host().await;
    for (net, mode, said) in [
        (NetMode::User, Mode::Allow, None),
        (NetMode::User, Mode::Open, None),
        (NetMode::User, Mode::Closed, Some("the machine's policy is `closed`")),
        (NetMode::None, Mode::Open, Some("the machine has no network")),
    ] {
        let plan = &mut user.inputs.machine.as_mut().expect("one").plan;
        (plan.net, plan.egress.mode) = (net, mode);
        let (asked, outcomes) = host.configure_machine(&user.inputs).await.expect("it may ask");
        let refused =
            said.map(|why| format!("unavailable: {why}, so `a.example` stays closed too"));
        assert_eq!(outcomes[0].for_user(), Vec::from_iter(refused));
        assert_eq!(names(&asked).len(), usize::from(said.is_none()));
    }
}

#[tokio::test]
async fn two_plugins_on_one_variable_are_a_conflict_unless_their_order_is_said() {
    let mut user = user(&["one", "two"]);
    steps(&mut user, "one", HookPoint::ConfigureMachine, &["env EVERY_A=1", "env EVERY_B=1"]);
    steps(&mut user, "two", HookPoint::ConfigureMachine, &["env EVERY_A=2"]);
    let host = user.host().await;
    let conflict = host.configure_machine(&user.inputs).await.expect_err("a conflict");
    let text = "plugins `one` and `two` both want to set the variable `EVERY_A`";
    assert_eq!(conflict.to_string(), text);
    for (after, wins) in [("two", "1"), ("one", "2")] {
        edit(&user, "one", |manifest| manifest);
        edit(&user, "two", |manifest| manifest);
        let later = if after == "two" { "one" } else { "two" };
        let line = format!("after = ['{after}']");
        edit(&user, later, with(HookPoint::ConfigureMachine, &line));
        let (asked, outcomes) = host.configure_machine(&user.inputs).await.expect("declared");
        assert_eq!(outcomes[1].plugin.as_str(), later);
        assert_eq!(asked.env, pairs(&[("EVERY_A", wins), ("EVERY_B", "1")]));
    }
}

#[tokio::test]
async fn what_plugins_remember_is_kept_when_all_went_well_and_only_then() {
    let mut user = user(&[ID]);
    for point in HookPoint::ALL {
        steps(&mut user, ID, point, &["count calls", "remember vm={vm}"]);
    }
    steps(&mut user, ID, HookPoint::Preflight, &[]);
    steps(&mut user, ID, HookPoint::Doctor, &[]);
    let (host, guest) = (user.host().await, || std::sync::Arc::new(Guest::default()));
    user.inputs.purpose = Purpose::Look;
    host.configure_machine(&user.inputs).await.expect("well");
    host.prepare_work_disk(&user.inputs).await.expect("well");
    assert!(remembered(&user, ID).is_empty(), "somebody only looked");
    user.inputs.purpose = Purpose::Act;
    host.configure_machine(&user.inputs).await.expect("well");
    host.prepare_work_disk(&user.inputs).await.expect("well");
    host.post_start(&user.inputs, guest()).await.expect("well");
    host.pre_stop(&user.inputs).await.expect("well");
    host.cleanup(&user.inputs).await.expect("well");
    assert_eq!(remembered(&user, ID), pairs(&[("calls", "5"), ("vm", "web")]));

    for point in HookPoint::ALL {
        steps(&mut user, ID, point, &["count calls", "forget vm", "fail no"]);
    }
    host.configure_machine(&user.inputs).await.expect_err("it fails");
    host.post_start(&user.inputs, guest()).await.expect_err("it fails");
    for outcomes in [host.pre_stop(&user.inputs).await, host.cleanup(&user.inputs).await] {
        let outcomes = outcomes.expect("nothing keeps a VM from going");
        assert!(
            outcomes[0].failure.as_ref().is_some_and(|failure| failure.contains("no (asked-for)"))
        );
    }
    assert_eq!(remembered(&user, ID), pairs(&[("calls", "5"), ("vm", "web")]));
}

#[tokio::test]
async fn one_plugin_is_in_no_others_way_when_a_machine_stops_or_goes() {
    let mut user = user(&["broken", "good", "wrong"]);
    for point in [HookPoint::PreStop, HookPoint::Cleanup] {
        steps(&mut user, "broken", point, &["panic the moon is full"]);
        steps(&mut user, "good", point, &["count calls"]);
        user.set("wrong", "no-such-setting", "x");
    }
    let host = user.host().await;
    for outcomes in [host.pre_stop(&user.inputs).await, host.cleanup(&user.inputs).await] {
        let outcomes = outcomes.expect("nothing keeps a VM from going");
        let failure = |id: &str| {
            let outcome = outcomes.iter().find(|outcome| outcome.plugin.as_str() == id);
            outcome.expect("it is in there").failure.clone()
        };
        assert!(failure("broken").is_some_and(|why| why.contains("the moon is full")));
        assert!(failure("wrong").is_some_and(|why| why.contains("`no-such-setting` is unknown")));
        assert_eq!(failure("good"), None);
    }
    assert_eq!(remembered(&user, "good"), pairs(&[("calls", "2")]));
}

#[tokio::test]
async fn findings_for_doctor_are_bounded_and_escaped() {
    let mut user = user(&[ID]);
    let mut findings = vec!["pass all \u{1b}[2Jwell", "warn slow", "bad gone"];
    findings.resize(20, "pass more");
    steps(&mut user, ID, HookPoint::Doctor, &findings);
    user.inputs.machine = None;
    let host = user.host().await;
    let outcomes = host.doctor(&user.inputs).await.expect("asked");
    let found = &outcomes[0].findings;
    assert_eq!(found.len(), limits::ANSWERS);
    let verdicts: Vec<_> = found.iter().map(|finding| finding.verdict).collect();
    assert_eq!(verdicts[..4], [Verdict::Pass, Verdict::Warn, Verdict::Fail, Verdict::Pass]);
    assert_eq!(found[0].found, "all \\u{1b}[2Jwell");
    assert_eq!(found[2].advice.as_deref(), Some("about gone"));
    steps(&mut user, ID, HookPoint::Doctor, &["fail no"]);
    let outcomes = host.doctor(&user.inputs).await.expect("asked");
    assert!(outcomes[0].failure.is_some() && outcomes[0].findings.is_empty());
}

#[tokio::test]
async fn only_points_with_plugins_have_any() {
    let user = User::with_standard_plugins();
    let host = user.host().await;
    for point in HookPoint::ALL {
        let has = host.has(point).await.expect("readable");
        assert_eq!(has, point == HookPoint::PrepareWorkDisk, "{point}");
    }
}
