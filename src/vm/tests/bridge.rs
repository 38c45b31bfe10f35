//! VMs on the bridge, and who is whose peer.

use super::world::World;
use super::{Daemon, daemon, run, wish};
use crate::report::{Kind, Report};
use crate::vm::Doom;
use crate::wire::rpc::{CreateVm, NetMode};

fn bridged(name: &str, peers: &[&str]) -> CreateVm {
    let peers = peers.iter().map(|peer| (*peer).to_owned()).collect();
    CreateVm { net: Some(NetMode::Bridge), peers, ..wish(name) }
}

async fn refused(daemon: &Daemon, wanted: CreateVm) -> Report {
    daemon.vms.create(wanted, None).await.expect_err("refused")
}

#[test]
fn a_pair_is_of_both_and_goes_with_either() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let vms = &daemon.vms;
        vms.create(bridged("db", &[]), None).await.expect("created");
        vms.create(bridged("web", &["db"]), None).await.expect("created");
        vms.create(bridged("other", &[]), None).await.expect("created");
        let peers = |vm: &str| vms.net(vm).expect("there").peers;
        assert_eq!((peers("db"), peers("web")), (vec!["web".to_owned()], vec!["db".to_owned()]));
        assert!(peers("other").is_empty());
        assert_eq!(world.host().bridge.len(), 3);
        vms.stop("db").await.expect("stopped");
        assert_eq!((peers("web"), world.host().bridge.len()), (vec!["db".to_owned()], 2));
        vms.delete("db", Doom::WHATEVER).await.expect("deleted");
        assert!(peers("web").is_empty());
    });
}

#[test]
fn peers_are_vms_of_the_bridge_and_nothing_is_made_for_others() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("user"), None).await.expect("created");
        let not_there = CreateVm { peers: vec!["db".to_owned()], ..wish("web") };
        let many: Vec<String> = (0..65).map(|number| format!("vm-{number}")).collect();
        let many = CreateVm { peers: many, ..bridged("web", &[]) };
        for (wanted, kind, part) in [
            (not_there, Kind::Conflict, "only VMs on the bridge have peers"),
            (bridged("web", &["nobody"]), Kind::NotFound, "nobody"),
            (bridged("web", &["user"]), Kind::Conflict, "its network is `user`"),
            (many, Kind::Invalid, "at most 64 peers, and not 65"),
        ] {
            let report = refused(&daemon, wanted).await;
            assert!(report.kind == kind && report.message.contains(part), "{report:?}");
        }
        assert_eq!(world.host().rows.len(), 1);
    });
}
