//! Every hook point through the host's own interface, with the plugin `every-hook`, whose settings say what
//! it does at each.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::memory::Memory;
use super::tests_support::User;
use super::*;
use crate::id::{Digest, PluginId};
use crate::report::{Explain, Kind};
use crate::wire::rpc::{HookPoint, Verdict};

const ID: &str = "every-hook";

/// A user with the plugin under these ids, which has all it asks for.
fn user(ids: &[&str]) -> User {
    let user = User::new();
    for id in ids {
        edit(&user, id, |manifest| manifest);
    }
    user
}

/// The plugin again, with another manifest.
fn edit(user: &User, id: &str, edit: impl Fn(String) -> String) {
    user.install(&user.settings.standard_folder, ID, id, edit);
}

/// The manifest with a line more for one hook point.
fn with(point: HookPoint, line: &str) -> impl Fn(String) -> String {
    let (table, line) = (format!("[hooks.{point}]"), line.to_owned());
    move |manifest| manifest.replace(&table, &format!("{table}\n{line}"))
}

/// What a plugin does at a hook point.
fn steps(user: &mut User, id: &str, point: HookPoint, steps: &[&str]) {
    let id: PluginId = id.parse().expect("an id");
    let steps: Vec<_> = steps.iter().map(|step| toml::Value::from(*step)).collect();
    user.inputs.settings.entry(id).or_default().insert(point.to_string(), steps.into());
}

/// What a plugin remembers, as texts.
fn remembered(user: &User, id: &str) -> BTreeMap<String, String> {
    let memory = Memory::new(user.settings.state_folder.clone());
    let values = memory.load(&id.parse().expect("an id")).expect("readable");
    let text = |bytes| String::from_utf8(bytes).expect("a text");
    values.into_iter().map(|(key, value)| (key, text(value))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A guest that notes what is run in it.
#[derive(Default)]
struct Guest {
    ran: Mutex<Vec<GuestProgram>>,
    now: AtomicUsize,
    most: AtomicUsize,
    /// Programs do not end, and each is told here.
    hangs: Option<mpsc::Sender<()>>,
}

impl GuestPrograms for Guest {
    fn run(&self, program: GuestProgram) -> BoxFuture<'_, Result<GuestOutput, String>> {
        async move {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let script = program.arguments.last().cloned().unwrap_or_default();
            self.ran.lock().expect("no panic under the lock").push(program);
            if let Some(told) = &self.hangs {
                told.send(()).await.expect("the test listens");
                std::future::pending::<()>().await;
            }
            tokio::task::yield_now().await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            match script.as_str() {
                "lost" => Err("the guest is gone".to_owned()),
                _ => Ok(GuestOutput { status: 3, stdout: b"out\n".to_vec(), ..GuestOutput::default() }),
            }
        }
        .boxed()
    }
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
        "try forward 1:8080",
        "try forward 1:22",
        "try egress a.example",
        "try egress evil.test",
    ];
    steps(&mut user, ID, HookPoint::ConfigureMachine, &wishes);
    // Not even a plugin that may set every variable may set these.
    edit(&user, ID, |manifest| manifest.replace("EVERY_*", "*"));
    steps(&mut user, ID, HookPoint::ConfigureMachine, &wishes[3..5]);
    let host = user.host().await;
    let (asked, outcomes) = host.configure_machine(&user.inputs).await.expect("it may ask");
    assert_eq!((asked, outcomes[0].refusals.len()), (Asked::default(), 2));

    edit(&user, ID, |manifest| manifest);
    steps(&mut user, ID, HookPoint::ConfigureMachine, &wishes);
    let (asked, outcomes) = host.configure_machine(&user.inputs).await.expect("it may ask");
    assert_eq!(asked.env, pairs(&[("EVERY_A", "s3cret")]));
    assert_eq!(asked.labels, pairs(&[("every/one", "1")]));
    let said = outcomes[0].for_user();
    for (said, expected) in said.iter().zip([
        "not-granted: `machine.env:OTHER` is not granted",
        "not-granted: `machine.env:PATH` is not granted",
        "not-granted: `machine.env:LD_PRELOAD` is not granted",
        "not-granted: `machine.label:other` is not granted",
        "unavailable: this cove forwards no ports, so not 1 to 8080",
        "not-granted: `machine.forward:22` is not granted",
        "unavailable: this cove has no policy by names, so none for `a.example`",
        "not-granted: `machine.egress:evil.test` is not granted",
    ]) {
        assert_eq!(said, expected);
    }
    assert_eq!(said.len(), 8);
    let shown = format!("{:?}", asked.shown());
    assert!(shown.contains("EVERY_A") && !shown.contains("s3cret"), "{shown}");

    steps(&mut user, ID, HookPoint::ConfigureMachine, &["env EVERY_A=1", "fail no"]);
    edit(&user, ID, with(HookPoint::ConfigureMachine, "failure = 'optional'"));
    let (asked, outcomes) = host.configure_machine(&user.inputs).await.expect("it is optional");
    assert!(asked == Asked::default() && outcomes[0].failure.is_some(), "dropped as a whole");
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
        assert!(outcomes[0].failure.as_ref().is_some_and(|failure| failure.contains("no (asked-for)")));
    }
    assert_eq!(remembered(&user, ID), pairs(&[("calls", "5"), ("vm", "web")]));
}

#[tokio::test]
async fn a_plugin_runs_what_it_may_in_the_guest() {
    let mut user = user(&[ID]);
    let script = ["shell true", "try run rm", "try shell lost"];
    steps(&mut user, ID, HookPoint::PostStart, &script);
    let (host, guest) = (user.host().await, std::sync::Arc::new(Guest::default()));
    let outcomes = host.post_start(&user.inputs, guest.clone()).await.expect("it may run");
    let said = ["3: out", "not-granted: `guest.run:rm` is not granted", "io: the guest is gone"];
    assert_eq!(outcomes[0].for_user(), said);
    assert_eq!(outcomes[0].refusals.len(), 1);
    let ran: Vec<_> = guest.ran.lock().expect("ended").iter().map(|ran| ran.program.clone()).collect();
    assert_eq!(ran, ["sh", "sh"]);

    let flood = format!("flood {}", limits::GUEST_PROGRAMS + 1);
    steps(&mut user, ID, HookPoint::PostStart, &[&flood]);
    let guest = std::sync::Arc::new(Guest::default());
    let failed = host.post_start(&user.inputs, guest.clone()).await.expect_err("too many");
    assert!(failed.to_string().contains("a plugin runs at most 32 programs"), "{failed}");
    assert_eq!(guest.ran.lock().expect("ended").len(), limits::GUEST_PROGRAMS);
}

#[tokio::test]
async fn nothing_runs_in_a_guest_without_a_grant() {
    let mut user = User::new();
    let folder = user.install(&user.settings.user_folder, ID, ID, |manifest| manifest);
    let component = Digest::of(&fs::read(folder.join("plugin.wasm")).expect("there"));
    let needs = vec!["state".to_owned()];
    let plugin = ID.parse().expect("an id");
    user.settings.grants = vec![Grant { plugin, component, needs, host_files: BTreeMap::new() }];
    steps(&mut user, ID, HookPoint::PostStart, &["count calls", "shell true"]);
    let guest = std::sync::Arc::new(Guest::default());
    let host = user.host().await;
    let failed = host.post_start(&user.inputs, guest.clone()).await.expect_err("not granted");
    assert!(failed.to_string().contains("`guest.run:sh` is not granted"), "{failed}");
    assert!(guest.ran.lock().expect("ended").is_empty() && remembered(&user, ID).is_empty());
}

#[tokio::test]
async fn hooks_in_a_guest_run_one_after_the_other_in_their_order() {
    let mut user = user(&["one", "two", "zero"]);
    for id in ["one", "two", "zero"] {
        steps(&mut user, id, HookPoint::PostStart, &[&format!("shell {id}"), "shell true"]);
    }
    edit(&user, "one", with(HookPoint::PostStart, "after = ['zero']"));
    edit(&user, "two", with(HookPoint::PostStart, "before = ['zero']"));
    let guest = std::sync::Arc::new(Guest::default());
    let host = user.host().await;
    host.post_start(&user.inputs, guest.clone()).await.expect("all may run");
    let ran = guest.ran.lock().expect("ended");
    let ran: Vec<_> = ran.iter().filter_map(|ran| ran.arguments.last().cloned()).collect();
    assert_eq!(ran, ["two", "true", "zero", "true", "one", "true"]);
    assert_eq!(guest.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn all_hooks_of_a_point_have_a_time_together() {
    let mut user = user(&["one", "three", "two"]);
    for id in ["one", "three", "two"] {
        steps(&mut user, id, HookPoint::PostStart, &["shell true"]);
        edit(&user, id, with(HookPoint::PostStart, "failure = 'optional'\ntimeout = '15m'"));
    }
    let host = user.host().await;
    host.check().await.expect("all can run");
    let (told, mut calls) = mpsc::channel(8);
    let guest = std::sync::Arc::new(Guest { hangs: Some(told), ..Guest::default() });
    tokio::time::pause();
    let time_passes = async {
        for _ in 0..2 {
            calls.recv().await.expect("called");
            tokio::time::advance(std::time::Duration::from_secs(901)).await;
        }
    };
    let (outcomes, ()) = tokio::join!(host.post_start(&user.inputs, guest), time_passes);
    let outcomes = outcomes.expect("none has to succeed");
    let failures: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.failure.clone()).collect();
    assert!(failures[0].ends_with("it took longer than 900000 ms"), "{failures:?}");
    assert!(failures[1].contains("it took longer than 29"), "{failures:?}");
    assert!(failures[2].contains("nothing was left of the 1200 s"), "{failures:?}");
}

#[tokio::test]
async fn a_hook_whose_caller_is_gone_runs_nothing_on() {
    let mut user = user(&[ID]);
    steps(&mut user, ID, HookPoint::PostStart, &["count calls", "shell true"]);
    let (host, (told, mut calls)) = (user.host().await, mpsc::channel(8));
    let guest = std::sync::Arc::new(Guest { hangs: Some(told), ..Guest::default() });
    let running = std::sync::Arc::downgrade(&guest);
    tokio::select! {
        ended = host.post_start(&user.inputs, guest) => panic!("it hangs: {ended:?}"),
        called = calls.recv() => called.expect("called"),
    }
    // The run lets go of the guest, and with it of the program in it.
    while running.upgrade().is_some() {
        tokio::task::yield_now().await;
    }
    assert!(remembered(&user, ID).is_empty());
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
