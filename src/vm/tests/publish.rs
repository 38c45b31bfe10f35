//! Ports of the host that VMs have: taken before anything is made, given back whatever ends, taken again by
//! the next daemon.

use super::world::{Plugins, World};
use super::{Daemon, daemon, listed, outcome, run, wish};
use crate::report::Kind;
use crate::vm::Doom;
use crate::wire::rpc::{ClientContext, CreateVm, ForwardVm, HookPoint, Publish, VmState};

fn publish(texts: &[&str]) -> Vec<Publish> {
    texts.iter().map(|text| text.parse().expect("valid")).collect()
}

fn publishing(name: &str, texts: &[&str]) -> CreateVm {
    CreateVm { publish: publish(texts), ..wish(name) }
}

/// What is open, and whether somebody is behind it.
fn open(daemon: &Daemon) -> Vec<(String, bool)> {
    let published = daemon.published.lock().expect("no panic");
    let all = published
        .values()
        .flat_map(|ports| ports.open.iter().map(|port| (port.to_string(), ports.served.is_some())));
    all.collect()
}

#[test]
fn ports_are_open_as_long_as_the_vm_runs() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let made = publishing("web", &["8080:80", "0.0.0.0:9090:90"]);
        let made = daemon.vms.create(made, None).await.expect("created");
        assert_eq!(outcome(made), Ok(VmState::Running));
        let both = [("127.0.0.1:8080:80".to_owned(), true), ("0.0.0.0:9090:90".to_owned(), true)];
        assert_eq!(open(&daemon), both);
        let shown = listed(&daemon.vms);
        assert_eq!(shown[0].publish, publish(&["8080:80", "0.0.0.0:9090:90"]));
        assert!(shown[0].publish_failed.is_empty());
        daemon.vms.stop("web").await.expect("stopped");
        assert_eq!(open(&daemon), []);
        assert_eq!(daemon.vms.show("web").expect("there").publish.len(), 2, "they are its own");
        let client = ClientContext::default();
        daemon.vms.start("web", client, true).await.expect("an operation");
        assert_eq!(open(&daemon), both);
        for monitor in world.monitors() {
            world.end(monitor);
        }
        let at_rest = async {
            while daemon.vms.show("web").expect("there").state != VmState::Stopped {
                tokio::task::yield_now().await;
            }
        };
        at_rest.await;
        assert_eq!(open(&daemon), []);
    });
}

#[test]
fn a_start_that_cannot_have_its_ports_makes_nothing() {
    run(async {
        let world = World::default();
        world.host().in_use.insert(9090);
        let daemon = daemon(&world, None);
        let made = publishing("web", &["8080:80", "9090:90"]);
        let failed = outcome(daemon.vms.create(made, None).await.expect("an operation"));
        assert!(failed.expect_err("a port is in use").contains("127.0.0.1:9090:90 in use"));
        assert!(open(&daemon).is_empty() && listed(&daemon.vms).is_empty());
        assert_eq!(world.complaints(), [""; 0]);
        // A start that fails later gives back what it had taken.
        world.plug(Plugins::Fail(HookPoint::PostStart));
        let made = publishing("web", &["8080:80"]);
        outcome(daemon.vms.create(made, None).await.expect("an operation")).expect_err("it fails");
        assert_eq!(open(&daemon), []);
    });
}

#[test]
fn one_port_is_one_vms() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let rests = CreateVm { start: Some(false), ..publishing("web", &["8080:80"]) };
        daemon.vms.create(rests, None).await.expect("created");
        for taken in ["8080:81", "0.0.0.0:8080:80"] {
            let other = publishing("other", &[taken]);
            let error = daemon.vms.create(other, None).await.expect_err("taken");
            assert!(error.kind == Kind::Conflict && error.message.contains("`web`"), "{error:?}");
        }
        for wrong in [&["0:80"][..], &["1:2", "1:3"], &["1:2", "0.0.0.0:1:3"]] {
            let other = publishing("other", wrong);
            let error = daemon.vms.create(other, None).await.expect_err("impossible");
            assert!(error.kind == Kind::Invalid && error.hint.is_some(), "{error:?}");
        }
        daemon.vms.delete("web", Doom::WHATEVER).await.expect("deleted");
        daemon.vms.create(publishing("other", &["8080:80"]), None).await.expect("free");
    });
}

#[test]
fn of_two_that_are_made_at_once_one_gets_the_port() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let create = |name| daemon.vms.create(publishing(name, &["8080:80"]), None);
        let (one, other) = tokio::join!(create("one"), create("other"));
        let refused = [one, other].into_iter().filter_map(Result::err).collect::<Vec<_>>();
        let [error] = &refused[..] else { panic!("{refused:?}") };
        assert!(error.kind == Kind::Conflict && error.message.contains("8080"), "{error:?}");
        assert_eq!((listed(&daemon.vms).len(), open(&daemon).len()), (1, 1));
        assert_eq!(world.complaints(), [""; 0]);
        daemon.tasks.drain(std::time::Duration::from_secs(1)).await;
        let later = super::daemon(&world, None);
        later.vms.recover().await.expect("recovered");
        assert_eq!(listed(&later.vms).len(), 1, "no row is left of the other");
    });
}

#[test]
fn the_next_daemon_opens_what_it_can() {
    run(async {
        let world = World::default();
        let first = daemon(&world, None);
        let made = publishing("web", &["8080:80", "9090:90"]);
        first.vms.create(made, None).await.expect("created");
        first.tasks.drain(std::time::Duration::from_secs(1)).await;
        world.host().in_use.insert(9090);
        let second = daemon(&world, None);
        second.vms.recover().await.expect("recovered");
        while open(&second).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(open(&second), [("127.0.0.1:8080:80".to_owned(), true)]);
        let shown = second.vms.show("web").expect("there");
        assert_eq!((shown.state, shown.publish.len()), (VmState::Running, 2));
        assert_eq!(shown.publish_failed, ["127.0.0.1:9090:90 is in use"]);
        assert_eq!(listed(&second.vms)[0].publish_failed, shown.publish_failed);
    });
}

#[test]
fn plugins_ask_for_ports_of_one_boot_and_the_user_wins() {
    run(async {
        let world = World::default();
        world.host().forwards = publish(&["8080:1", "7070:70"]);
        let daemon = daemon(&world, None);
        daemon.vms.create(publishing("web", &["8080:80"]), None).await.expect("created");
        let ports = publish(&["8080:80", "7070:70"]);
        assert_eq!(daemon.vms.show("web").expect("there").publish, ports);
        world.host().forwards = publish(&["6060:60"]);
        let client = ClientContext::default();
        daemon.vms.restart("web", client, true).await.expect("an operation");
        assert_eq!(
            daemon.vms.show("web").expect("there").publish,
            publish(&["8080:80", "6060:60"])
        );
        daemon.vms.stop("web").await.expect("stopped");
        assert_eq!(daemon.vms.show("web").expect("there").publish, publish(&["8080:80"]));
    });
}

#[test]
fn a_forward_needs_a_guest_and_a_port() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let forward = |vm: &str, port| ForwardVm { vm: vm.to_owned(), port };
        let kind = async |wanted| match daemon.vms.forward(wanted).await {
            Ok(_) => panic!("it was not refused"),
            Err(error) => error.kind,
        };
        assert_eq!(kind(forward("web", 80)).await, Kind::NotFound);
        daemon.vms.create(wish("web"), None).await.expect("created");
        assert_eq!(kind(forward("web", 0)).await, Kind::Invalid);
        let target = daemon.vms.forward(forward("web", 80)).await.expect("it runs");
        target.open().await.expect("connected");
        assert_eq!(world.host().connected, [80]);
        daemon.vms.stop("web").await.expect("stopped");
        assert_eq!(kind(forward("web", 80)).await, Kind::Conflict);
    });
}
