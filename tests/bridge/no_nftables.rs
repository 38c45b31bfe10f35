//! A host whose kernel has no nftables.

#[path = "../support/no_nftables.rs"]
mod kernel;

use cove::net::bridge::{Bridge, Member};
use cove::process::Process;
use cove::task::Tasks;

use crate::bridge_host::World;

#[test]
fn without_nftables_nothing_is_made_on_the_host() {
    let Some(world) = World::new() else { return };
    let state = || world.host("ip -o addr; sysctl -n net.ipv4.ip_forward");
    world.host("echo 0 > /proc/sys/net/ipv4/ip_forward");
    let one = world.vm(1);
    let (vm, slot, pid) = (one.id.clone(), one.slot, one.keeper.pid());
    let (setup, before) = (world.setup.clone(), state());
    let asked = world.internet.host().enter(move || {
        kernel::take_nftables_away();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let tasks = Tasks::default();
            let bridge = Bridge::start(setup, "/nonexistent".into(), &tasks);
            let keeper = Process::open_any(pid).expect("opens").expect("it lives").id();
            let member = Member { vm: vm.clone(), slot, peers: [].into() };
            [
                bridge.check().await.map(drop),
                bridge.sync(Some(vec![member.clone()])).await.map(drop),
                bridge.attach(member, keeper).await,
                bridge.detach(&vm).await,
            ]
        })
    });
    for report in asked.join().expect("no panic") {
        let report = report.expect_err("there are none");
        assert!(report.message.starts_with("this host's kernel has no nftables"), "{report:?}");
        let hint = report.hint.expect("a way out");
        assert!(hint.contains("`sudo modprobe -a nf_tables "), "{hint}");
    }
    assert_eq!(state(), before);
}
