//! What clients do in the scenarios. Calls may fail: then the next one is made all the same.

use std::time::Duration;

use crate::egress::Mode;
use crate::vm::tests::world::World;
use crate::vm::tests::{larger, wish};
use crate::vm::{Doom, VmService};
use crate::wire::rpc::{ClientContext, CreateVm, KillSignal, NetMode, NetRule, SetVm};

/// A start of its maker's, and one of anybody's.
pub(super) async fn fail_twice(vms: &VmService) {
    vms.create(wish("web"), None).await.ok();
    vms.create(CreateVm { start: Some(false), ..wish("web") }, None).await.ok();
    vms.start("web", ClientContext::default(), true).await.ok();
    vms.delete("web", Doom::WHATEVER).await.ok();
}

/// Ends that plugins are told of.
pub(super) async fn end(vms: &VmService) {
    vms.create(wish("web"), None).await.ok();
    vms.restart("web", ClientContext::default(), true).await.ok();
    vms.stop("web").await.ok();
    vms.delete("web", Doom::WHATEVER).await.ok();
}

pub(super) async fn restart(vms: &VmService) {
    let client = ClientContext::default;
    vms.create(wish("web"), None).await.ok();
    vms.restart("web", client(), true).await.ok();
    vms.stop("web").await.ok();
    vms.restart("web", client(), true).await.ok();
}

pub(super) async fn signal(vms: &VmService) {
    vms.create(wish("web"), None).await.ok();
    for signal in [KillSignal::Stop, KillSignal::Cont, KillSignal::Term] {
        vms.kill("web", signal).await.ok();
    }
}

pub(super) async fn set(vms: &VmService) {
    let client = ClientContext::default;
    vms.create(wish("web"), None).await.ok();
    vms.set(larger("web", 2)).await.ok();
    vms.restart("web", client(), true).await.ok();
    vms.stop("web").await.ok();
    vms.set(larger("web", 3)).await.ok();
    vms.start("web", client(), true).await.ok();
}

/// Changes of what a VM may reach: one that runs, one at rest.
pub(super) async fn reach(vms: &VmService) {
    let client = ClientContext::default;
    let rule = |rule: &str| NetRule { vm: "web".to_owned(), rule: rule.parse().expect("a rule") };
    let mode = |mode| SetVm { vm: "web".to_owned(), egress: Some(mode), ..SetVm::default() };
    let allow = vec![rule("example.org:443").rule];
    vms.create(CreateVm { allow, ..wish("web") }, None).await.ok();
    vms.allow(rule("*.example.net")).await.ok();
    vms.deny(rule("example.org:443")).await.ok();
    vms.set(mode(Mode::Closed)).await.ok();
    vms.restart("web", client(), true).await.ok();
    vms.stop("web").await.ok();
    vms.allow(rule("1.2.3.0/24")).await.ok();
    vms.set(mode(Mode::Open)).await.ok();
    vms.start("web", client(), true).await.ok();
}

/// Two on the bridge, of which one is the other's peer.
pub(super) async fn bridge(vms: &VmService) {
    let client = ClientContext::default;
    let net = Some(NetMode::Bridge);
    vms.create(CreateVm { net, ..wish("db") }, None).await.ok();
    let peers = vec!["db".to_owned()];
    vms.create(CreateVm { net, peers, ..wish("web") }, None).await.ok();
    vms.restart("web", client(), true).await.ok();
    vms.stop("db").await.ok();
    vms.delete("web", Doom::WHATEVER).await.ok();
    vms.start("db", client(), true).await.ok();
}

pub(super) async fn idle(vms: &VmService) {
    vms.create(wish("web"), None).await.ok();
    let auto_stop_after_s = Some(60);
    let vm = "web".to_owned();
    vms.set(SetVm { vm, auto_stop_after_s, ..SetVm::default() }).await.ok();
    tokio::time::sleep(Duration::from_secs(300)).await;
}

/// The host's disk is full, has room again, is full again.
pub(super) async fn stalled(vms: &VmService, world: &World) {
    let client = ClientContext::default;
    vms.create(wish("web"), None).await.ok();
    world.fill();
    vms.start("web", client(), true).await.ok();
    vms.stats("web").await.ok();
    vms.set(larger("web", 2)).await.ok();
    world.make_room();
    vms.start("web", client(), true).await.ok();
    world.fill();
    vms.restart("web", client(), true).await.ok();
    world.make_room();
    vms.restart("web", client(), true).await.ok();
    world.fill();
    world.make_room();
    vms.stop("web").await.ok();
}
