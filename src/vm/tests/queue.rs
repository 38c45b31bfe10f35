//! Commands on one VM go in order; kill and delete cut short; different VMs do not wait.

use std::time::Duration;

use super::fault::{Fate, Fault};
use super::world::{Behaviour, World};
use super::{Daemon, daemon, listed, outcome, run, wish};
use crate::report::Kind;
use crate::vm::Doom;
use crate::wire::rpc::{ClientContext, CreateVm, KillSignal, OperationEnd, VmState};

/// The index of a call when a VM is created.
fn call_of_create(call: &str) -> usize {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("probe"), None).await.expect("created");
        daemon.faults.calls().iter().position(|name| *name == call).expect("it is called")
    })
}

/// A daemon whose guests never answer, with a create under way on `web`.
async fn stuck(world: &World) -> (Daemon, crate::wire::rpc::Operation) {
    world.behave(Behaviour { never_answers: true, ..Behaviour::default() });
    let daemon = daemon(world, None);
    let create = CreateVm { wait: false, ..wish("web") };
    let operation = daemon.vms.create(create, None).await.expect("an operation");
    while !daemon.faults.calls().contains(&"guest.wait_answering") {
        tokio::task::yield_now().await;
    }
    (daemon, operation)
}

#[test]
fn commands_on_one_vm_go_in_order() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let vms = &daemon.vms;
        let create = CreateVm { wait: false, ..wish("web") };
        vms.create(create, None).await.expect("an operation");
        // All of these are asked before the create is through; each finds what the one before made.
        let (stopped, touched) = tokio::join!(vms.stop("web"), vms.stop("web"));
        assert_eq!(stopped.expect("stopped").state, VmState::Stopped);
        assert_eq!(touched.expect("stopped").state, VmState::Stopped);
        let client = ClientContext::default();
        let started = vms.start("web", client, false).await.expect("an operation");
        let deleted = vms.delete("web", Doom::WHATEVER).await.expect("deleted");
        assert_eq!(deleted.name.as_str(), "web");
        let ended = vms.operations().watch(&started.id).expect("known").borrow().clone();
        assert_eq!(ended.end.and_then(|end| end.failure()), Some(Kind::Cancelled));
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_delete_cuts_a_start_short_and_takes_queued_starts_along() {
    run(async {
        let world = World::default();
        let (daemon, operation) = stuck(&world).await;
        let began = tokio::time::Instant::now();
        daemon
            .vms
            .delete("web", Doom::WHATEVER)
            .await
            .expect("a create that removes its VM is a delete");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        let state = daemon.vms.operations().watch(&operation.id).expect("known");
        let ended = super::super::operation::ended(state).await.expect("ended");
        assert_eq!(ended.end.and_then(|end| end.failure()), Some(Kind::Cancelled));
        assert!(world.host().rows.is_empty() && world.host().processes.is_empty());
        // The name is free at once.
        world.behave(Behaviour::default());
        let again = daemon.vms.create(wish("web"), None).await.expect("an operation");
        assert_eq!(outcome(again), Ok(VmState::Running));
    });
}

#[test]
fn starts_in_the_queue_of_a_deleted_vm_end() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let vms = &daemon.vms;
        vms.create(CreateVm { start: Some(false), ..wish("web") }, None).await.expect("created");
        let client = ClientContext::default;
        let (deleted, start, late) = tokio::join!(
            vms.delete("web", Doom::WHATEVER),
            vms.start("web", client(), true),
            vms.start("web", client(), true),
        );
        deleted.expect("deleted");
        for start in [start, late] {
            match start {
                Ok(operation) => {
                    let failed = operation.end.and_then(|end| end.failure());
                    assert_eq!(failed, Some(Kind::NotFound));
                }
                Err(error) => assert_eq!(error.kind, Kind::NotFound),
            }
        }
        assert!(vms.operations().list().iter().all(|operation| operation.end.is_some()));
    });
}

#[test]
fn a_kill_cuts_a_graceful_stop_short() {
    run(async {
        let world = World::default();
        world.behave(Behaviour { ignores_power_off: true, ..Behaviour::default() });
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("web"), None).await.expect("created");
        let began = tokio::time::Instant::now();
        let (stopped, killed) =
            tokio::join!(daemon.vms.stop("web"), daemon.vms.kill("web", KillSignal::Kill));
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(stopped.expect("stopped").state, VmState::Stopped);
        assert_eq!(killed.expect("killed").state, VmState::Stopped);
    });
}

#[test]
fn a_stop_of_a_guest_that_ignores_it_ends_at_its_deadline() {
    run(async {
        let world = World::default();
        world.behave(Behaviour { ignores_power_off: true, ..Behaviour::default() });
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("web"), None).await.expect("created");
        let began = tokio::time::Instant::now();
        daemon.vms.stop("web").await.expect("stopped");
        assert!((10..12).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        assert_eq!(world.monitors(), []);
    });
}

#[test]
fn a_kill_that_nobody_waits_for_harms_no_later_start() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let vms = &daemon.vms;
        vms.create(wish("web"), None).await.expect("created");
        // Polled once, then dropped, like the call of a client that has gone away.
        tokio::select! {
            biased;
            _ = vms.kill("web", KillSignal::Kill) => panic!("it cannot be through already"),
            () = std::future::ready(()) => {}
        }
        vms.stop("web").await.expect("stopped");
        let started = vms.start("web", ClientContext::default(), true).await.expect("an operation");
        assert_eq!(outcome(started), Ok(VmState::Running));
    });
}

#[test]
fn a_cancel_undoes_a_create_and_leaves_nothing() {
    run(async {
        let world = World::default();
        let (daemon, operation) = stuck(&world).await;
        let state = daemon.vms.operations().cancel(&operation.id).expect("known");
        let ended = super::super::operation::ended(state).await.expect("ended");
        match ended.end.expect("ended") {
            OperationEnd::Failed { error, vm_kept, .. } => {
                assert_eq!((error.kind, vm_kept), (Kind::Cancelled, false));
                assert_eq!(error.operation, Some(operation.id));
            }
            OperationEnd::Done { vm } => panic!("it was cancelled: {vm:?}"),
        }
        let host = world.host();
        assert!(host.rows.is_empty() && host.processes.is_empty() && host.folders.is_empty());
    });
}

#[test]
fn twenty_vms_start_side_by_side() {
    let at = call_of_create("machines.choose_accel");
    run(async {
        let world = World::default();
        // The first of them hangs; the others do not notice.
        let daemon = daemon(&world, Some((at, Fault::Hang)));
        let mut operations = Vec::new();
        let mut began = tokio::time::Instant::now();
        for number in 0..20 {
            let create = CreateVm { wait: false, ..wish(&format!("vm-{number}")) };
            operations.push(daemon.vms.create(create, None).await.expect("an operation").id);
            if number == 0 {
                daemon.faults.until(Fate::Hangs).await;
                began = tokio::time::Instant::now();
            }
        }
        let running = || {
            let vms = listed(&daemon.vms);
            vms.iter().filter(|vm| vm.state == VmState::Running).count()
        };
        while running() < 19 {
            tokio::task::yield_now().await;
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        for operation in operations {
            let state = daemon.vms.operations().watch(&operation).expect("known");
            super::super::operation::ended(state).await.expect("ended");
        }
        assert_eq!(running(), 19);
        assert_eq!(world.complaints(), Vec::<String>::new());
        let names: Vec<_> = world.host().rows.iter().map(|row| row.name.to_string()).collect();
        let deletes = names.iter().map(|name| daemon.vms.delete(name, Doom::WHATEVER));
        for deleted in futures_util::future::join_all(deletes).await {
            deleted.expect("deleted");
        }
        assert!(world.host().folders.is_empty());
    });
}

#[test]
fn of_two_creates_with_one_name_one_wins() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let (one, two) = tokio::join!(
            daemon.vms.create(wish("web"), None),
            daemon.vms.create(wish("web"), None),
        );
        let lost: Vec<_> =
            [&one, &two].into_iter().filter_map(|made| made.as_ref().err()).collect();
        assert!(matches!(lost.as_slice(), [error] if error.kind == Kind::Conflict), "{lost:?}");
        assert_eq!(world.host().rows.len(), 1);
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_client_that_goes_away_cancels_nothing() {
    // Dropped at every point at which a create can be dropped.
    for polls in 1..60 {
        run(async {
            let world = World::default();
            let daemon = daemon(&world, None);
            let create = daemon.vms.create(wish("web"), None);
            let mut create = std::pin::pin!(create);
            let mut left = polls;
            let dropped = std::future::poll_fn(|context| {
                left -= 1;
                match create.as_mut().poll(context) {
                    std::task::Poll::Ready(_) => std::task::Poll::Ready(false),
                    std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(true),
                    std::task::Poll::Pending => std::task::Poll::Pending,
                }
            });
            let dropped = dropped.await;
            // Time goes on only when nothing else does, so everything is through after this.
            tokio::time::sleep(Duration::from_secs(100)).await;
            assert_eq!(world.complaints(), Vec::<String>::new(), "after {polls} polls");
            let shown = listed(&daemon.vms);
            assert_eq!(shown.len(), world.host().rows.len(), "every row has its owner");
            if !dropped || !shown.is_empty() {
                assert_eq!(shown[0].state, VmState::Running, "after {polls} polls");
            }
        });
    }
}

#[test]
fn a_daemon_with_vms_at_rest_ends_at_once() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("runs"), None).await.expect("created");
        let made = CreateVm { start: Some(false), ..wish("rests") };
        daemon.vms.create(made, None).await.expect("created");
        let began = tokio::time::Instant::now();
        assert_eq!(daemon.tasks.drain(Duration::from_secs(10)).await, 0);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(world.monitors().len(), 1, "its VMs go on");
    });
}
