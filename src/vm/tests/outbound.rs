//! What VMs may reach: what is written and what is in force, since when, and what is said when they differ.

use std::time::Duration;

use super::fault::{Fate, Fault};
use super::world::World;
use super::{Daemon, daemon, run, wish};
use crate::egress::{MAX_RULES, Mode, Policy, Rule};
use crate::report::{Kind, Report};
use crate::wire::rpc::{
    ClientContext, CreateVm, Holds, KillSignal, NetDenials, NetExplain, NetExplanation, NetMode,
    NetRule, NetShow, SetVm, Setting, VmState,
};

fn rule(text: &str) -> Rule {
    text.parse().expect("a rule")
}

fn policy(mode: Mode, rules: &[&str]) -> Policy {
    Policy { mode, rules: rules.iter().map(|text| rule(text)).collect() }
}

/// A wish for a VM that reaches what these rules name.
fn allowing(rules: &[&str]) -> CreateVm {
    CreateVm { allow: rules.iter().map(|text| rule(text)).collect(), ..wish("web") }
}

/// A VM that runs and reaches `example.org`.
async fn running(world: &World, planned: Option<(usize, Fault)>) -> Daemon {
    let daemon = daemon(world, planned);
    daemon.vms.create(allowing(&["example.org"]), None).await.expect("created");
    daemon
}

async fn allow(daemon: &Daemon, text: &str) -> Result<NetShow, Report> {
    daemon.vms.allow(NetRule { vm: "web".to_owned(), rule: rule(text) }).await
}

async fn deny(daemon: &Daemon, text: &str) -> Result<NetShow, Report> {
    daemon.vms.deny(NetRule { vm: "web".to_owned(), rule: rule(text) }).await
}

fn mode(mode: Mode) -> SetVm {
    SetVm { vm: "web".to_owned(), egress: Some(mode), ..SetVm::default() }
}

/// What the row of the one VM says.
fn written(world: &World) -> Policy {
    world.host().rows[0].spec.egress.clone()
}

/// What the keeper of the one VM knows.
fn in_force(world: &World) -> Option<Policy> {
    world.host().policies.values().next().cloned()
}

#[test]
fn a_change_is_written_and_in_force_at_once() {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        let first = policy(Mode::Allow, &["example.org"]);
        assert_eq!((written(&world), in_force(&world)), (first.clone(), Some(first.clone())));
        let both = policy(Mode::Allow, &["example.org", "*.example.net:443"]);
        for _ in 0..2 {
            let shown = allow(&daemon, "*.Example.net:443").await.expect("allowed");
            assert_eq!((shown.egress, shown.mode), (both.clone(), NetMode::User));
            assert_eq!((written(&world), in_force(&world)), (both.clone(), Some(both.clone())));
        }
        let reply = daemon.vms.set(mode(Mode::Closed)).await.expect("set");
        assert_eq!(
            (reply.changes[0].setting, reply.changes[0].holds),
            (Setting::Egress, Holds::Now)
        );
        assert_eq!(reply.vm.net.egress, Some(Mode::Closed));
        assert_eq!(in_force(&world), Some(Policy { mode: Mode::Closed, ..both.clone() }));
        assert!(daemon.vms.net("web").expect("there").warnings[0].contains("opens nothing"));
        daemon.vms.set(mode(Mode::Allow)).await.expect("set");
        deny(&daemon, "*.example.net:443").await.expect("denied");
        assert_eq!((written(&world), in_force(&world)), (first.clone(), Some(first)));
    });
}

#[test]
fn a_vm_at_rest_begins_with_what_is_written() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let made = CreateVm { start: Some(false), ..allowing(&[]) };
        daemon.vms.create(made, None).await.expect("created");
        assert_eq!((written(&world), in_force(&world)), (Policy::default(), None));
        daemon.vms.set(mode(Mode::Allow)).await.expect("set");
        allow(&daemon, "1.2.3.4").await.expect("allowed");
        let whole = policy(Mode::Allow, &["1.2.3.4"]);
        assert_eq!((written(&world), in_force(&world)), (whole.clone(), None));
        daemon.vms.start("web", ClientContext::default(), true).await.expect("an operation");
        assert_eq!(in_force(&world), Some(whole));
    });
}

#[test]
fn a_rule_that_is_not_there_cannot_be_taken_back_and_too_many_cannot_be_added() {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        let error = deny(&daemon, "example.org:443").await.expect_err("it is not there");
        assert_eq!(error.kind, Kind::Conflict);
        assert_eq!(error.hint.as_deref(), Some("its rules are `example.org`"));
        for number in 1..MAX_RULES {
            allow(&daemon, &format!("host-{number}.example.org")).await.expect("room");
        }
        let error = allow(&daemon, "one.example.com").await.expect_err("one too many");
        assert!(error.kind == Kind::Invalid && error.hint.is_some(), "{error:?}");
        allow(&daemon, "example.org").await.expect("it is there already");
        let error = deny(&daemon, "x.example.org").await.expect_err("it is not there");
        let hint = error.hint.expect("a hint");
        assert!(hint.contains("and 236 more: `cove net show web`"), "{hint}");
        assert_eq!(written(&world).rules.len(), MAX_RULES);
        let unknown = NetRule { vm: "none".to_owned(), rule: rule("example.org") };
        assert_eq!(daemon.vms.allow(unknown).await.expect_err("none").kind, Kind::NotFound);
    });
}

#[test]
fn a_new_vm_reaches_what_its_maker_says() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        for (egress, allow, expected) in [
            (None, &[][..], policy(Mode::Open, &[])),
            (None, &["example.org", "example.org"], policy(Mode::Allow, &["example.org"])),
            (Some(Mode::Open), &["10.1.2.3"], policy(Mode::Open, &["10.1.2.3"])),
            (Some(Mode::Closed), &[], policy(Mode::Closed, &[])),
        ] {
            let plan = daemon.vms.plan(&CreateVm { egress, ..allowing(allow) }).await;
            assert_eq!(plan.expect("a plan").machine.egress, expected);
        }
        let open = CreateVm { egress: Some(Mode::Open), ..allowing(&["a.org"]) };
        let notes = daemon.vms.plan(&open).await.expect("a plan").notes;
        assert!(notes[0].contains("`a.org` changes nothing"), "{notes:?}");
        let many: Vec<_> = (0..=MAX_RULES).map(|number| format!("h{number}.org")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let error = daemon.vms.create(allowing(&many), None).await.expect_err("too many");
        assert_eq!(error.kind, Kind::Invalid);
        let none = CreateVm { net: Some(NetMode::None), ..allowing(&["example.org"]) };
        let error = daemon.vms.create(none, None).await.expect_err("nothing to allow");
        assert!(error.kind == Kind::Conflict && error.hint.is_some(), "{error:?}");
        assert!(world.host().rows.is_empty(), "nothing was made");
    });
}

#[test]
fn a_vm_without_a_network_has_nothing_to_allow() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let none = CreateVm { net: Some(NetMode::None), ..wish("web") };
        daemon.vms.create(none, None).await.expect("created");
        let errors = [
            allow(&daemon, "example.org").await.expect_err("refused"),
            deny(&daemon, "example.org").await.expect_err("refused"),
            daemon.vms.set(mode(Mode::Closed)).await.expect_err("refused"),
            daemon.vms.denials(&denials(0, 0)).await.expect_err("refused"),
        ];
        assert!(errors.iter().all(|error| error.kind == Kind::Conflict && error.hint.is_some()));
        let explained = explain(&daemon, "1.1.1.1", Some(443)).await.expect("explained");
        assert_eq!((explained.allowed, &*explained.because), (false, "`web` has no network"));
        assert_eq!(daemon.vms.show("web").expect("there").net.egress, None);
    });
}

/// A VM that runs, in which the `count`th call of `name` goes wrong when a rule is added.
fn failing(name: &'static str, fault: Fault) -> Option<(usize, Fault)> {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        let before = daemon.faults.calls().len();
        allow(&daemon, "1.2.3.4").await.expect("allowed");
        let calls = daemon.faults.calls();
        let at = calls[before..].iter().position(|call| *call == name).expect("it is called");
        Some((before + at, fault))
    })
}

#[test]
fn a_row_that_cannot_be_written_leaves_everything_as_it_was() {
    let planned = failing("rows.update", Fault::Error);
    run(async {
        let world = World::default();
        let daemon = running(&world, planned).await;
        allow(&daemon, "1.2.3.4").await.expect_err("it cannot be written");
        let before = policy(Mode::Allow, &["example.org"]);
        assert_eq!((written(&world), in_force(&world)), (before.clone(), Some(before.clone())));
        assert_eq!(daemon.vms.net("web").expect("there").egress, before);
    });
}

#[test]
fn a_keeper_that_cannot_be_told_is_told_of_and_the_same_again_tells_it() {
    let planned = failing("outbound.set_policy", Fault::Error);
    for again in ["allow", "start", "recover"] {
        run(async {
            let world = World::default();
            let daemon = running(&world, planned).await;
            let error = allow(&daemon, "1.2.3.4").await.expect_err("it cannot be told");
            assert!(error.message.contains("`web` may reach is written down"), "{error:?}");
            assert!(error.cause[0].contains("injected"), "{error:?}");
            let (old, new) = (
                policy(Mode::Allow, &["example.org"]),
                policy(Mode::Allow, &["example.org", "1.2.3.4"]),
            );
            assert_eq!((written(&world), in_force(&world)), (new.clone(), Some(old)));
            match again {
                "allow" => drop(allow(&daemon, "1.2.3.4").await.expect("told")),
                "start" => {
                    let client = ClientContext::default();
                    daemon.vms.restart("web", client, true).await.expect("an operation");
                }
                _ => {
                    let later = super::daemon(&world, None);
                    later.vms.recover().await.expect("recovers");
                }
            }
            assert_eq!(in_force(&world), Some(new), "{again}");
            assert_eq!(world.complaints(), Vec::<String>::new());
        });
    }
}

#[test]
fn a_rule_whose_end_was_not_told_ends_when_it_is_denied_again() {
    let planned = failing("outbound.set_policy", Fault::Error);
    run(async {
        let world = World::default();
        let daemon = running(&world, planned).await;
        deny(&daemon, "example.org").await.expect_err("it cannot be told");
        assert_eq!(in_force(&world), Some(policy(Mode::Allow, &["example.org"])));
        let error = deny(&daemon, "example.org").await.expect_err("it is gone from the row");
        assert_eq!(error.kind, Kind::Conflict);
        assert_eq!(in_force(&world), Some(policy(Mode::Allow, &[])));
    });
}

#[test]
fn a_kill_does_not_wait_for_a_keeper_that_does_not_answer() {
    let planned = failing("outbound.set_policy", Fault::Hang);
    run(async {
        let world = World::default();
        let daemon = running(&world, planned).await;
        let began = tokio::time::Instant::now();
        let kill = async {
            daemon.faults.until(Fate::Hangs).await;
            daemon.vms.kill("web", KillSignal::Kill).await
        };
        let (allowed, killed) = tokio::join!(allow(&daemon, "1.2.3.4"), kill);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        let error = allowed.expect_err("it was cut short");
        assert_eq!(error.kind, Kind::Cancelled);
        assert!(error.message.contains("the old or the new rules are in force"), "{error:?}");
        assert_eq!(killed.expect("killed").state, VmState::Stopped);
        daemon.vms.start("web", ClientContext::default(), true).await.expect("an operation");
        assert_eq!(in_force(&world), Some(policy(Mode::Allow, &["example.org", "1.2.3.4"])));
    });
}

#[test]
fn what_plugins_wish_for_is_in_force_for_its_boot_and_a_later_daemon_knows_it() {
    run(async {
        let world = World::default();
        world.host().wished.extend([rule("example.org"), rule("registry.example")]);
        let daemon = running(&world, None).await;
        let own = policy(Mode::Allow, &["example.org"]);
        let all = policy(Mode::Allow, &["example.org", "registry.example"]);
        assert_eq!((written(&world), in_force(&world)), (own.clone(), Some(all.clone())));
        let shown = daemon.vms.net("web").expect("there");
        assert_eq!((shown.egress, shown.wished), (own.clone(), vec![rule("registry.example")]));
        let error = deny(&daemon, "registry.example").await.expect_err("it is not its own");
        assert!(error.message.contains("a plugin asked for it"), "{error:?}");

        world.host().policies.clear();
        let later = super::daemon(&world, None);
        later.vms.recover().await.expect("recovers");
        assert_eq!(in_force(&world), Some(all));
        allow(&later, "1.2.3.4").await.expect("allowed");
        let more = policy(Mode::Allow, &["example.org", "1.2.3.4", "registry.example"]);
        assert_eq!(in_force(&world), Some(more));

        world.host().wished.clear();
        later.vms.restart("web", ClientContext::default(), true).await.expect("an operation");
        assert_eq!(in_force(&world), Some(policy(Mode::Allow, &["example.org", "1.2.3.4"])));
    });
}

#[test]
fn plugins_cannot_give_more_rules_than_there_may_be() {
    run(async {
        let world = World::default();
        world.host().wished.extend((0..MAX_RULES).map(|number| rule(&format!("h{number}.org"))));
        let daemon = daemon(&world, None);
        let made = daemon.vms.create(allowing(&["example.org"]), None).await.expect("an operation");
        let failure = super::outcome(made).expect_err("one too many");
        assert!(failure.contains("plugins ask for what a VM cannot have: 257 rules"), "{failure}");
    });
}

async fn explain(daemon: &Daemon, host: &str, port: Option<u16>) -> Result<NetExplanation, Report> {
    let asked = NetExplain { vm: "web".to_owned(), host: host.to_owned(), port };
    daemon.vms.explain(&asked).await
}

#[test]
fn a_vm_that_runs_is_explained_by_its_keeper_and_one_at_rest_by_its_rules() {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        allow(&daemon, "1.2.3.4:80").await.expect("allowed");
        let asked = daemon.faults.calls().len();
        let explained = explain(&daemon, "1.2.3.4", Some(80)).await.expect("explained");
        assert_eq!((explained.allowed, &*explained.because), (true, "the rule `1.2.3.4:80`"));
        assert_eq!(daemon.faults.calls()[asked..], ["outbound.explain"]);
        daemon.vms.stop("web").await.expect("stopped");
        let explained = explain(&daemon, "Example.org.", Some(443)).await.expect("explained");
        let because =
            "the rule `example.org`; that is what its rules say, for `web` is not running";
        assert_eq!((explained.allowed, &*explained.because), (true, because));
        let explained = explain(&daemon, "1.2.3.4", Some(443)).await.expect("explained");
        assert_eq!((explained.allowed, explained.would_allow), (false, Some(rule("1.2.3.4:443"))));
        for (host, port) in [("localhost", None), ("*.example.org", None), ("1.2.3.4", Some(0))] {
            let error = explain(&daemon, host, port).await.expect_err("no host");
            assert!(error.kind == Kind::Invalid && error.hint.is_some(), "{error:?}");
        }
    });
}

fn denials(after: u64, wait_ms: u64) -> NetDenials {
    NetDenials { vm: "web".to_owned(), after, wait_ms }
}

#[test]
fn a_keeper_that_goes_before_the_end_of_its_vm_is_known_is_no_failure() {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        world.host().policies.clear();
        let error = daemon.vms.denials(&denials(0, 0)).await.expect_err("no keeper answers");
        assert_eq!(error.kind, Kind::Failed, "the VM runs on");
        let end = async {
            tokio::task::yield_now().await;
            for monitor in world.monitors() {
                world.end(monitor);
            }
        };
        let ask = denials(0, 0);
        let (told, ()) = tokio::join!(daemon.vms.denials(&ask), end);
        assert_eq!(told.expect_err("it has ended").kind, Kind::Conflict);
    });
}

#[test]
fn denials_are_of_a_vm_that_runs_and_are_waited_for_no_longer_than_said() {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        let told = daemon.vms.denials(&denials(0, 30_000)).await.expect("told");
        assert_eq!((told.denials.len(), told.lost), (1, 0));
        let began = tokio::time::Instant::now();
        let told = daemon.vms.denials(&denials(1, 30_000)).await.expect("nothing more");
        assert_eq!((told.denials.len(), began.elapsed().as_secs()), (0, 30));
        let error = daemon.vms.denials(&denials(0, 30_001)).await.expect_err("too long");
        assert_eq!(error.kind, Kind::Invalid);
        daemon.vms.stop("web").await.expect("stopped");
        let error = daemon.vms.denials(&denials(0, 0)).await.expect_err("it does not run");
        assert!(error.kind == Kind::Conflict && error.hint.is_some(), "{error:?}");
    });
}
