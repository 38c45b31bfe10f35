//! A host for tests of the bridge, as a root daemon finds it, and what such a daemon does there.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cove::config::BridgeConfig;
use cove::id::VmId;
use cove::net::bridge::{Host, HostPlan, Privileged, Setup};
use cove::task::Tasks;

use crate::bridge_vm::{FakeVm, PORT, ask, run};
use crate::internet::{self, Internet};

/// Whatever is waited for takes far less.
const DEADLINE: Duration = Duration::from_secs(30);

/// The daemon's user.
pub(crate) const ROOT: u32 = 0;

/// Waits for something that comes by itself.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "not within {} s: {what}", DEADLINE.as_secs());
        std::thread::yield_now();
    }
}

/// A host, as the daemon finds it.
pub(crate) struct World {
    pub(crate) internet: Internet,
    pub(crate) setup: Setup,
}

impl World {
    /// `None`, and a reason is printed, where no namespaces can be made.
    pub(crate) fn new() -> Option<Self> {
        if let Some(reason) = internet::unavailable() {
            drop(writeln!(std::io::stderr(), "SKIPPED: {reason}"));
            return None;
        }
        let setup = Setup::new(&BridgeConfig::default(), "a test", ROOT).expect("valid");
        Some(Self { internet: Internet::new(), setup })
    }

    pub(crate) fn vm(&self, slot: u32) -> FakeVm {
        FakeVm::new(&self.internet, &self.setup, ROOT, slot)
    }

    /// Runs `work` on the host, with the privileged code in its process.
    pub(crate) fn on_host<F>(&self, work: impl FnOnce(Host) -> F + Send + 'static)
    where
        F: Future<Output = ()>,
    {
        let setup = self.setup.clone();
        let thread = self.internet.host().enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let tasks = Tasks::default();
                work(Host::new(setup, ROOT, &tasks).expect("netlink")).await;
            });
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }

    pub(crate) fn host(&self, line: &str) -> String {
        run(self.internet.command("sh").args(["-ec", line]))
    }

    pub(crate) fn nft(&self, rules: &str) {
        self.host(&format!("nft -f - <<'END'\n{rules}\nEND"));
    }

    /// What the host asks a guest.
    pub(crate) fn asks(&self, vm: &FakeVm) -> Option<String> {
        let host = PathBuf::from("/run/netns").join(self.internet.host().name());
        ask(&host, vm.lease.ipv4, PORT).ok()
    }

    /// What is on the host that was not there before.
    pub(crate) fn left(&self) -> String {
        self.host(
            "ip -o link | grep -E 'cove0|cv[0-9a-f]{12}' || true; nft list tables | grep cove0 || true; \
             ip route | grep 10.203 || true; ip neigh show nud permanent | grep 10.203 || true",
        )
    }

    pub(crate) fn dropped(&self) -> u64 {
        let rules = self.host("nft -j list chain bridge cove0 checked");
        let rules: serde_json::Value = serde_json::from_str(&rules).expect("JSON");
        let all = rules["nftables"].as_array().expect("a list");
        let expressions = all.iter().filter_map(|one| one["rule"]["expr"].as_array()).flatten();
        expressions.filter_map(|one| one["counter"]["packets"].as_u64()).sum()
    }
}

/// What the keepers of VMs do when the uplinks are there.
pub(crate) fn joined(world: &World, vms: &[&FakeVm]) {
    for vm in vms {
        vm.join(&world.setup, ROOT);
    }
}

/// What a task on the host is told of a VM.
pub(crate) fn handed(vm: &FakeVm) -> (VmId, u32, OwnedFd) {
    (vm.id.clone(), vm.slot, vm.keeper.namespace())
}

/// Attaches VMs to a bridge that has none, and goes on with that.
pub(crate) fn attach(world: &World, vms: &[&FakeVm], peers: &[(&FakeVm, &FakeVm)]) {
    let vms: Vec<_> = vms.iter().map(|vm| handed(vm)).collect();
    let pairs: Vec<_> = peers.iter().map(|(a, b)| (a.id.clone(), b.id.clone())).collect();
    let mut plan = HostPlan::new(world.setup.clone());
    world.on_host(async move |mut host| {
        assert_eq!(host.sync(&plan).await, Ok(Vec::new()));
        for (vm, slot, namespace) in vms {
            host.attach(&vm, slot, namespace).await.expect("attached");
            plan = plan.with(&vm, slot);
        }
        plan.peers.extend(pairs);
        assert_eq!(host.sync(&plan).await, Ok(Vec::new()));
    });
}

/// Makes the host as it is to be with these VMs, and returns those without a port.
pub(crate) fn sync(world: &World, vms: &[&FakeVm], peers: &[(&FakeVm, &FakeVm)]) -> Vec<VmId> {
    let mut plan = HostPlan::new(world.setup.clone());
    plan.vms = vms.iter().map(|vm| (vm.id.clone(), vm.slot)).collect();
    plan.peers = peers.iter().map(|(a, b)| (a.id.clone(), b.id.clone())).collect();
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    world.on_host(async move |mut host| {
        let missing = host.sync(&plan).await.expect("synced");
        sender.send(missing).expect("somebody waits");
    });
    receiver.recv().expect("it was sent")
}
