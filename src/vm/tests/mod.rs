//! Tests of the VM service over a host in memory: the same transitions, with a fault at every port call.
//!
//! - `world`: rows, processes and folders, and what must hold between them
//! - `ports`, `disks`, `guests`, `programs`, `networks`, `plugins`, `forwards`: the ports over them, each call
//!   through `fault`
//! - `walk`: every scenario again for every call and every fault, then recovery
//! - `queue`, `endings`, `settings`, `idle`, `leases`: commands, interrupts, clients that go away
//! - `outbound`: what VMs may reach, and since when
//! - `hooks`: when plugins are asked and told, and what they cannot keep from happening
//! - `looking`: what is told of VMs
//! - `ssh`: ssh servers for one connection
//! - `copies`: files and trees that are copied
//! - `prepare`: repositories that go into VMs that run
//! - `publish`: ports of the host that VMs have
//! - `unreadable`: rows that cannot be read
//! - `stalls`: machines that stand still because the host's disk is full
//! - `work`: what keeps a VM from being deleted with work in it
//! - `model`: random commands against a model

mod bridge;
mod disks;
pub(crate) mod fault;
mod forwards;
pub(crate) mod guests;
mod networks;
mod plugins;
pub(crate) mod ports;
pub(crate) mod programs;
mod seen;
pub(crate) mod world;

mod copies;
mod endings;
mod hooks;
mod idle;
mod leases;
mod looking;
mod model;
mod outbound;
mod prepare;
mod publish;
mod queue;
mod settings;
mod ssh;
mod stalls;
mod unreadable;
mod walk;
mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fault::{Fault, Faults};
use forwards::SimPorts;
use ports::Sim;
use world::World;

use super::ports::Ports;
use super::{CreateDefaults, Doom, Doomed, StartDeadlines, Unexported, VmService, VmSettings};
use crate::egress::Policy;
use crate::id::VmId;
use crate::size::Size;
use crate::task::Tasks;
use crate::wire::rpc::{
    CreateVm, NetMode, Operation, OperationEnd, Page, SetVm, Vm, VmPage, VmState,
};

/// One daemon over a world.
pub(crate) struct Daemon {
    pub(crate) vms: VmService,
    pub(crate) tasks: Tasks,
    pub(crate) faults: Arc<Faults>,
    /// Its ports of the host.
    pub(crate) published: Arc<Mutex<BTreeMap<VmId, SimPorts>>>,
}

/// A daemon over this world, before it recovers.
pub(crate) fn daemon(world: &World, planned: Option<(usize, Fault)>) -> Daemon {
    daemon_with(world, planned, |ports| ports)
}

/// The same with some ports replaced.
pub(crate) fn daemon_with(
    world: &World,
    planned: Option<(usize, Fault)>,
    replace: impl FnOnce(Ports) -> Ports,
) -> Daemon {
    let faults = Faults::new(planned);
    let published = Arc::default();
    let sim = Sim { world: world.clone(), faults: faults.clone(), ports: Arc::clone(&published) };
    let tasks = Tasks::default();
    let size = |text: &str| text.parse::<Size>().expect("a size");
    let settings = VmSettings {
        vms: world::VMS.into(),
        consoles: std::env::temp_dir().join(format!("cove-consoles-{}", std::process::id())),
        start: StartDeadlines { life: Duration::from_secs(5), boot: Duration::from_secs(40) },
        stop: Duration::from_secs(10),
        host_memory_mib: 4096,
        defaults: CreateDefaults {
            image: "default".parse().expect("valid"),
            vcpu: 1,
            memory: size("256M"),
            disk: size("1G"),
            root_disk: size("1G"),
            net: NetMode::User,
            egress: Policy::default(),
        },
    };
    let vms = VmService::new(replace(sim.ports()), settings, tasks.clone());
    Daemon { vms, tasks, faults, published }
}

/// A daemon with the VM `web`, which runs.
pub(crate) async fn running(world: &World) -> Daemon {
    let daemon = daemon(world, None);
    daemon.vms.create(wish("web"), None).await.expect("created");
    daemon
}

/// The end of a VM that is at rest, with all that is in it.
pub(crate) const AT_REST: Doom = Doom { which: Doomed::AtRest, work: Unexported::Discard };

/// A wish for a VM, waited for.
pub(crate) fn wish(name: &str) -> CreateVm {
    CreateVm { name: Some(name.to_owned()), wait: true, ..CreateVm::default() }
}

/// A wish for more of everything: so many processors, and as many GiB of work disk and half of memory.
pub(crate) fn larger(vm: &str, times: u32) -> SetVm {
    SetVm {
        vm: vm.to_owned(),
        vcpu: Some(times),
        memory_mib: Some(512 * u64::from(times)),
        disk_bytes: Some(u64::from(times) << 30),
        ..SetVm::default()
    }
}

/// The VMs of the first page, as a client reads them.
fn listed(vms: &VmService) -> Vec<Vm> {
    let page = vms.list(&Page::default()).expect("a page");
    let text = serde_json::to_string(&page).expect("string keys only");
    serde_json::from_str::<VmPage>(&text).expect("a page of VMs").vms
}

/// How an operation ended: the VM's state, or what failed.
fn outcome(operation: Operation) -> Result<VmState, String> {
    match operation.end.expect("it was waited for") {
        OperationEnd::Done { vm } => Ok(vm.state),
        OperationEnd::Failed { error, .. } => Err(error.one_line()),
    }
}

/// Runs a test's body in a runtime of its own, whose time goes on by itself only when nothing else can.
fn run<T>(body: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().expect("a runtime").block_on(body)
}
