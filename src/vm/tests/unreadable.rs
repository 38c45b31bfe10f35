//! Rows that cannot be read: their VMs are left alone, and the others work.

use std::time::Duration;

use super::world::{World, folder};
use super::{daemon, run, wish};
use crate::id::VmId;
use crate::report::Kind;
use crate::vm::Doom;
use crate::vm::record::Unreadable;
use crate::wire::rpc::{CreateVm, NetMode, VmState};

/// A world with the VMs `bad` and `good`, which run, when the row of `bad` is spoilt; and its id.
async fn spoilt(world: &World) -> VmId {
    spoilt_with(world, NetMode::User).await
}

/// The same, with VMs of this network.
async fn spoilt_with(world: &World, net: NetMode) -> VmId {
    let daemon = daemon(world, None);
    for name in ["bad", "good"] {
        let wanted = CreateVm { net: Some(net), ..wish(name) };
        daemon.vms.create(wanted, None).await.expect("created");
    }
    daemon.tasks.drain(Duration::from_secs(10)).await;
    let mut host = world.host();
    let bad = host.rows.remove(0);
    assert_eq!(bad.name.as_str(), "bad");
    let (id, name) = (Some(bad.id.clone()), bad.name.to_string());
    host.unreadable.push(Unreadable { row: 1, id, name, problem: "no JSON".to_owned() });
    bad.id
}

#[test]
fn a_vm_whose_row_cannot_be_read_is_left_alone() {
    run(async {
        let world = World::default();
        let bad = spoilt(&world).await;
        let unknown = folder(&VmId::random());
        world.host().folders.insert(unknown.clone());
        let before = world.monitors();
        let next = daemon(&world, None);
        next.vms.recover().await.expect("recovers");
        assert_eq!(world.monitors(), before, "both run on");
        assert!(world.host().folders.contains(&folder(&bad)), "its folder is where it was");
        assert_eq!(world.host().lost.len(), 1, "and only the folder of nobody is set aside");
        assert!(!world.host().folders.contains(&unknown));
        for wanted in ["bad", bad.as_str()] {
            let error = next.vms.show(wanted).expect_err("it cannot be shown");
            assert_eq!(error.kind, Kind::Failed);
            assert_eq!(error.message, "the row of the VM `bad` cannot be read");
            assert_eq!(error.cause, ["no JSON"]);
        }
        assert_eq!(next.vms.stop("good").await.expect("stopped").state, VmState::Stopped);
        next.vms.delete("good", Doom::WHATEVER).await.expect("deleted");
        let fresh = CreateVm { start: Some(false), ..wish("fresh") };
        next.vms.create(fresh, None).await.expect("created");
        assert_eq!(world.monitors().len(), 1);
    });
}

#[test]
fn when_not_even_its_id_can_be_read_no_folder_is_set_aside() {
    run(async {
        let world = World::default();
        let bad = spoilt(&world).await;
        world.host().unreadable[0].id = None;
        let next = daemon(&world, None);
        next.vms.recover().await.expect("recovers");
        assert!(world.host().folders.contains(&folder(&bad)) && world.host().lost.is_empty());
        assert_eq!(world.monitors().len(), 2, "and nothing is killed");
    });
}

#[test]
fn the_bridge_is_asked_for_only_where_a_vm_may_be_on_it() {
    run(async {
        for (net, on_bridge) in [(NetMode::User, 0), (NetMode::Bridge, 2)] {
            let world = World::default();
            spoilt_with(&world, net).await;
            let ports = world.host().bridge.clone();
            assert_eq!(ports.len(), on_bridge);
            let next = daemon(&world, None);
            next.vms.recover().await.expect("recovers");
            assert_eq!(world.host().bridge, ports, "both are where they were");
        }
    });
}
