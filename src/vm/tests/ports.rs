//! The ports over the world in memory: the host's side of a daemon.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::sync::watch;

use super::fault::Faults;
use super::forwards::SimPorts;
use super::guests::{SimCheckout, SimGuest};
use super::world::{World, folder, vm_of};
use crate::id::{BootId, Digest, ImageName, VmId};
use crate::process::{ProcessId, Usage};
use crate::report::{Kind, Report};
use crate::vm::ledger::{Ledger, LedgerError, ResourceKind};
use crate::vm::ports::{
    BootFiles, BootSource, Checkout, Checkouts, Guest, Guests, MachineSpec, Machines, Needs,
    PortResult, Ports, Preflight, Processes, Rows, Stall, Stalls, StartedMachine,
};
use crate::vm::record::{Stored, VmRecord};
use crate::vm::state::{Accel, VsockAddress};
use crate::wire::proof::BootKey;
use crate::wire::rpc::CreateWorkspace;

/// All ports of one daemon over a world.
#[derive(Clone)]
pub(crate) struct Sim {
    pub(crate) world: World,
    pub(crate) faults: Arc<Faults>,
    /// Ports of the host, which end with the daemon.
    pub(crate) ports: Arc<Mutex<BTreeMap<VmId, SimPorts>>>,
}

impl Sim {
    pub(crate) fn ports(&self) -> Ports {
        let sim = Arc::new(self.clone());
        Ports {
            rows: sim.clone(),
            processes: sim.clone(),
            machines: sim.clone(),
            stalls: sim.clone(),
            networks: sim.clone(),
            outbound: sim.clone(),
            disks: sim.clone(),
            boot_source: sim.clone(),
            guests: sim.clone(),
            hooks: sim.clone(),
            forwards: sim.clone(),
            checkouts: sim.clone(),
            work: sim.clone(),
            preflight: sim,
        }
    }

    /// One call of a port: its effect, unless a fault is planned for it.
    pub(crate) async fn call<T>(
        &self,
        name: &'static str,
        effect: impl Future<Output = PortResult<T>>,
    ) -> PortResult<T> {
        let after = self.faults.enter(name).await?;
        let result = effect.await;
        self.faults.leave(after).await?;
        result
    }

    pub(crate) async fn servant(
        &self,
        vm: &VmId,
        kind: ResourceKind,
        ledger: &dyn Ledger,
    ) -> PortResult<ProcessId> {
        ledger.intend(kind).await.map_err(|error| refused(&error))?;
        let process = self.world.spawn(vm, kind);
        if let Err(error) = ledger.made(kind, process).await {
            self.world.end(process);
            return Err(refused(&error));
        }
        Ok(process)
    }
}

pub(super) fn refused(error: &LedgerError) -> Report {
    Report::new(Kind::Failed, "no servant was started").with_cause(error)
}

#[async_trait]
impl Rows for Sim {
    async fn insert(&self, vm: &VmRecord) -> PortResult<()> {
        let insert = async {
            let mut host = self.world.host();
            if host.rows.iter().any(|row| row.name == vm.name) {
                return Err(Report::new(Kind::Conflict, "there is a VM of that name already"));
            }
            host.rows.push(vm.clone());
            host.resources.insert((vm.id.clone(), ResourceKind::Folder), None);
            Ok(())
        };
        self.call("rows.insert", insert).await
    }

    async fn update(&self, vm: &VmRecord) -> PortResult<()> {
        let update = async {
            let mut host = self.world.host();
            if let Some(row) = host.rows.iter_mut().find(|row| row.id == vm.id) {
                *row = vm.clone();
            }
            Ok(())
        };
        self.call("rows.update", update).await
    }

    async fn remove(&self, vm: &VmId) -> PortResult<()> {
        let remove = async {
            let mut host = self.world.host();
            host.rows.retain(|row| row.id != *vm);
            // As the database does: rows of resources go with the VM's.
            host.resources.retain(|(of, _), _| of != vm);
            Ok(())
        };
        self.call("rows.remove", remove).await
    }

    async fn all(&self) -> PortResult<Stored> {
        let all = async {
            let host = self.world.host();
            Ok(Stored { vms: host.rows.clone(), unreadable: host.unreadable.clone() })
        };
        self.call("rows.all", all).await
    }

    fn ledger(&self, vm: &VmId) -> Arc<dyn Ledger> {
        Arc::new(SimLedger { sim: self.clone(), vm: vm.clone() })
    }

    async fn resources(&self, vm: &VmId) -> PortResult<Vec<(ResourceKind, Option<ProcessId>)>> {
        let resources = async {
            let host = self.world.host();
            let of_vm = host.resources.iter().filter(|((of, _), _)| of == vm);
            Ok(of_vm.map(|((_, kind), process)| (*kind, *process)).collect())
        };
        self.call("rows.resources", resources).await
    }

    async fn released(&self, vm: &VmId, kind: ResourceKind) -> PortResult<()> {
        let released = async {
            self.world.host().resources.remove(&(vm.clone(), kind));
            Ok(())
        };
        self.call("rows.released", released).await
    }
}

struct SimLedger {
    sim: Sim,
    vm: VmId,
}

impl SimLedger {
    async fn write(
        &self,
        name: &'static str,
        kind: ResourceKind,
        process: Option<ProcessId>,
    ) -> Result<(), LedgerError> {
        let write = async {
            self.sim.world.host().resources.insert((self.vm.clone(), kind), process);
            Ok(())
        };
        let written = self.sim.call(name, write).await;
        written.map_err(|report| LedgerError { kind, source: report.one_line().into() })
    }
}

#[async_trait]
impl Ledger for SimLedger {
    async fn intend(&self, kind: ResourceKind) -> Result<(), LedgerError> {
        self.write("ledger.intend", kind, None).await
    }

    async fn made(&self, kind: ResourceKind, process: ProcessId) -> Result<(), LedgerError> {
        self.write("ledger.made", kind, Some(process)).await
    }
}

#[async_trait]
impl Processes for Sim {
    fn alive(&self, process: ProcessId) -> PortResult<bool> {
        self.faults.at_once("processes.alive")?;
        Ok(self.world.alive(process))
    }

    async fn ended(&self, process: ProcessId) -> PortResult<()> {
        let ended = async {
            self.world.until_ended(process).await;
            Ok(())
        };
        self.call("processes.ended", ended).await
    }

    async fn kill(&self, process: ProcessId) -> PortResult<()> {
        let kill = async {
            self.world.end(process);
            Ok(())
        };
        self.call("processes.kill", kill).await
    }

    async fn signal(&self, process: ProcessId, signal: Signal) -> PortResult<()> {
        let signal = async {
            self.world.signal(process, signal);
            Ok(())
        };
        self.call("processes.signal", signal).await
    }

    async fn usage(&self, process: ProcessId) -> PortResult<Option<Usage>> {
        let usage = async {
            let (cpu_ms, age_ms) = (500, 1000);
            let (resident_bytes, proportional_bytes) = (2 << 20, Some(1 << 20));
            let usage = Usage { cpu_ms, age_ms, resident_bytes, proportional_bytes };
            Ok(self.world.alive(process).then_some(usage))
        };
        self.call("processes.usage", usage).await
    }

    fn find(&self, vm: &VmId) -> Vec<ProcessId> {
        let host = self.world.host();
        host.processes.iter().filter(|one| one.vm == *vm).map(|one| one.id).collect()
    }
}

#[async_trait]
impl Machines for Sim {
    async fn choose_accel(&self, _: &Path, _: &Path, _: &Digest) -> PortResult<Accel> {
        self.call("machines.choose_accel", async { Ok(Accel::Tcg) }).await
    }

    async fn start(&self, spec: MachineSpec, ledger: &dyn Ledger) -> PortResult<StartedMachine> {
        let start = async {
            assert!(self.world.host().folders.contains(&spec.folder), "its disks are there");
            self.world.boot_disk(&spec.folder);
            self.servant(&spec.vm, ResourceKind::VsockDevice, ledger).await?;
            let monitor = self.servant(&spec.vm, ResourceKind::Monitor, ledger).await?;
            Ok(StartedMachine { monitor, vsock: VsockAddress::Socket { name: "v".to_owned() } })
        };
        self.call("machines.start", start).await
    }

    async fn adopt(&self, _: &VmId, _: &Path, _: ProcessId) -> PortResult<()> {
        self.call("machines.adopt", async { Ok(()) }).await
    }

    async fn grow_work_disk(&self, vm: &VmId, bytes: u64) -> PortResult<()> {
        let grow = async {
            let monitors = self.world.monitors_of(vm);
            assert_eq!(monitors.len(), 1, "only a monitor that lives is told");
            let mut host = self.world.host();
            let disk = host.disks.get_mut(&folder(vm)).expect("the disk is there");
            assert!(disk.file >= bytes, "its file has grown before");
            disk.seen = bytes;
            Ok(())
        };
        self.call("machines.grow_work_disk", grow).await
    }

    fn console_position(&self, _: &VmId) -> u64 {
        self.world.host().printed
    }

    async fn clear(&self, _: &Path) -> PortResult<()> {
        self.faults.at_once("machines.clear")
    }

    async fn last_words(&self, _: &VmId, _: &Path) -> Option<String> {
        Some("kernel panic".to_owned())
    }

    async fn console(&self, _: &Path, from: Option<u64>) -> PortResult<(Vec<u8>, u64, u64)> {
        self.faults.at_once("machines.console")?;
        let printed = b"kernel panic";
        let from = from.and_then(|from| usize::try_from(from).ok()).unwrap_or(0);
        let rest = printed.get(from..).unwrap_or_default();
        Ok((rest.to_vec(), printed.len() as u64, 0))
    }
}

#[async_trait]
impl Stalls for Sim {
    fn watch(&self, vm: &VmId) -> watch::Receiver<Option<Stall>> {
        self.world.watch_stall(vm)
    }

    async fn go_on(&self, vm: &VmId) -> PortResult<()> {
        let go_on = async {
            assert_eq!(self.world.monitors_of(vm).len(), 1, "only a monitor that lives is told");
            self.world.go_on(vm);
            Ok(())
        };
        self.call("stalls.go_on", go_on).await
    }
}

fn files() -> BootFiles {
    BootFiles {
        image: "/image".into(),
        image_digest: Digest::of(b"image"),
        kernel: "/kernel".into(),
        kernel_digest: Digest::of(b"kernel"),
        initramfs: "/initramfs".into(),
    }
}

#[async_trait]
impl BootSource for Sim {
    async fn resolve(&self, _: &ImageName) -> PortResult<BootFiles> {
        self.call("boot_source.resolve", async { Ok(files()) }).await
    }

    async fn of_vm(&self, _: &Digest, _: &Digest) -> PortResult<BootFiles> {
        self.call("boot_source.of_vm", async { Ok(files()) }).await
    }
}

impl Guests for Sim {
    fn guest(&self, folder: &Path, _: &VsockAddress, _: BootKey, boot: &BootId) -> Arc<dyn Guest> {
        Arc::new(SimGuest { sim: self.clone(), vm: vm_of(folder), boot: boot.clone() })
    }
}

#[async_trait]
impl Checkouts for Sim {
    async fn inspect(&self, wanted: &CreateWorkspace) -> PortResult<Arc<dyn Checkout>> {
        let inspect = async {
            let path = wanted.path.clone();
            Ok(Arc::new(SimCheckout { sim: self.clone(), path }) as Arc<dyn Checkout>)
        };
        self.call("checkouts.inspect", inspect).await
    }
}

#[async_trait]
impl Preflight for Sim {
    async fn check(&self, _: &Needs) -> PortResult<Vec<String>> {
        self.call("preflight.check", async { Ok(Vec::new()) }).await
    }
}
