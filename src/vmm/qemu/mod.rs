//! QEMU: the monitor that is in every distribution and needs no KVM.
//!
//! A machine is two servants in the VM's folder: the vsock device's process, where the kernel has no
//! vhost-vsock, and QEMU. Both outlive the daemon. The daemon keeps a connection to the console socket
//! and writes what comes into the ring; without a daemon QEMU drops what the guest prints. Another one, to
//! the control socket, tells when a guest stands still, and takes what is asked of the machine.

mod bare;
mod boot_files;
mod clock;
mod command;
mod console_task;
mod control;
mod control_task;
mod probe;
mod servants;
mod vsock;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

use super::accel::Verdicts;
use super::{VmmError, console};
use crate::config::AccelChoice;
use crate::id::{Digest, VmId};
use crate::process::{FileStamp, Process, ProcessId, Servant, ServantOutput, Tool, find_program};
use crate::report::escape_control;
use crate::task::{Tasks, blocking};
use crate::vm::ledger::{Ledger, ResourceKind};
use crate::vm::ports::{MachineSpec, Machines, PortResult, Stall, Stalls, StartedMachine};
use crate::vm::state::Accel;
use crate::wire::boot;
pub use bare::BareMachine;
use command::{CONSOLE_SOCKET, Machine, QMP_SOCKET, TAP_DESCRIPTOR, VsockDevice};
use control::Connection;
use control_task::{Keeper, Line, Question};
use servants::{connect, start_servant};

/// How long the daemon waits, when it takes a machine up, until it is known whether that stands still. One
/// that does not answer is taken up all the same, and what it says later holds then.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// How many lines of a console are quoted in an error.
const LAST_LINES: usize = 8;

/// Where QEMU and its helpers are.
#[derive(Debug, Clone)]
pub struct QemuSettings {
    /// QEMU.
    pub qemu: PathBuf,
    /// The vsock device's program.
    pub vhost_device_vsock: PathBuf,
    /// How processors are to run.
    pub accel: AccelChoice,
    /// The search path for the servants.
    pub search_path: OsString,
    /// Where verdicts about accelerators are kept.
    pub verdicts: PathBuf,
    /// Scratch space for the probe.
    pub scratch: PathBuf,
}

/// The monitor.
#[derive(Debug)]
pub struct Qemu {
    settings: QemuSettings,
    tasks: Tasks,
    verdicts: Arc<Verdicts>,
    counter: clock::HostCounter,
    machines: Mutex<HashMap<VmId, Watched>>,
    /// The control connections of the machines that run.
    lines: Arc<Mutex<HashMap<VmId, Line>>>,
    /// QEMU's version, with the file that said so.
    version: Mutex<Option<(FileStamp, String)>>,
}

/// What is kept in memory of a machine.
#[derive(Debug)]
struct Watched {
    printed: Arc<AtomicU64>,
    /// None after a daemon restart: it is in memory only.
    output: Option<ServantOutput>,
}

impl Qemu {
    /// The monitor with these settings.
    #[must_use]
    pub fn new(settings: QemuSettings, tasks: Tasks) -> Self {
        let verdicts = Arc::new(Verdicts::new(settings.verdicts.clone()));
        Self {
            settings,
            tasks,
            verdicts,
            machines: Mutex::default(),
            lines: Arc::default(),
            version: Mutex::default(),
            counter: clock::HostCounter::new(),
        }
    }

    /// QEMU's version line. Every start asks for it, so it is asked for once per file: the answer
    /// costs some 50 ms.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn version(&self) -> Result<String, VmmError> {
        let program = &self.settings.qemu;
        let (wanted, search_path) = (program.clone(), self.settings.search_path.clone());
        let look = move || FileStamp::of(&find_program(&wanted, &search_path)?).ok();
        let stamp = blocking(look).await;
        let known = self.version.lock().expect("no panic under the lock").clone();
        if let Some((_, version)) = known.filter(|(of, _)| Some(*of) == stamp) {
            return Ok(version);
        }
        let said = Tool::new(program).arg("--version").run().await;
        let said = said.map_err(|source| VmmError::Version { program: program.clone(), source })?;
        let said = String::from_utf8_lossy(&said);
        let version = said.lines().next().unwrap_or_default().trim().to_owned();
        let answer = stamp.map(|stamp| (stamp, version.clone()));
        *self.version.lock().expect("no panic under the lock") = answer;
        Ok(version)
    }

    /// How vsock devices are made here, or what is missing.
    ///
    /// # Errors
    /// When neither the kernel nor a program can make one.
    pub async fn vsock_kind(&self) -> Result<&'static str, VmmError> {
        vsock::kind(&self.settings.vhost_device_vsock).await
    }

    fn servant(&self, program: &Path, args: Vec<OsString>, folder: &Path) -> Servant {
        Servant {
            program: program.to_owned(),
            args,
            folder: folder.to_owned(),
            env: vec![("PATH".into(), self.settings.search_path.clone())],
            descriptors: Vec::new(),
        }
    }

    /// QEMU as the servant that runs this machine, but for the descriptor of its network device.
    async fn monitor(&self, spec: &MachineSpec, vsock: &VsockDevice) -> Servant {
        let kernel_arguments = match spec.accel {
            Accel::Tcg => self.counter.kernel_arguments().await,
            // A hypervisor tells its guest the rate.
            Accel::Kvm => "",
        };
        let machine = Machine {
            vm: &spec.vm,
            kernel: &spec.kernel,
            initrd: Path::new(boot_files::INITRD),
            image: &spec.image,
            accel: spec.accel,
            vcpu: spec.vcpu,
            memory_mib: spec.memory_mib,
            vsock,
            network: spec.network.as_ref().map(|network| &network.guest),
            kernel_arguments,
        };
        self.servant(&self.settings.qemu, command::arguments(&machine), &spec.folder)
    }

    async fn start_machine(
        &self,
        spec: MachineSpec,
        ledger: &dyn Ledger,
    ) -> Result<StartedMachine, VmmError> {
        boot_files::write_initrd(&spec).await?;
        let (device, address) = vsock::device(self, &spec.vm, &spec.folder, ledger).await?;
        let mut servant = self.monitor(&spec, &device).await;
        if let Some(network) = spec.network {
            servant.descriptors.push((network.tap, TAP_DESCRIPTOR));
        }
        let started = start_servant(servant, ResourceKind::Monitor, ledger).await?;
        let (process, output) = started;
        let monitor = process.id();
        let qemu = &self.settings.qemu;
        let console = connect(qemu, &spec.folder, CONSOLE_SOCKET, &process, Some(&output)).await?;
        let control = connect(qemu, &spec.folder, QMP_SOCKET, &process, Some(&output)).await?;
        self.watch_console(&spec.vm, &spec.folder, console, Some(output)).await?;
        let mut control = Connection::open(control).await?;
        control.check().await?;
        self.keep_control(&spec.vm, &spec.folder, process, Some(control));
        Ok(StartedMachine { monitor, vsock: address })
    }

    /// Keeps the control connection of a machine until its end. The returned channel tells when it is known
    /// for the first time whether the machine stands still.
    fn keep_control(
        &self,
        vm: &VmId,
        folder: &Path,
        process: Process,
        connection: Option<Connection>,
    ) -> oneshot::Receiver<()> {
        let program = self.settings.qemu.clone();
        let (keeper, line, known) = Keeper::new(vm.clone(), folder.to_owned(), program, process);
        let (lines, ours, vm) = (self.lines.clone(), line.stall.clone(), vm.clone());
        lines.lock().expect("no panic under the lock").insert(vm.clone(), line);
        self.tasks.spawn_until_shutdown("control", async move {
            keeper.run(connection).await;
            let mut lines = lines.lock().expect("no panic under the lock");
            // The VM may have been started again by now.
            if lines.get(&vm).is_some_and(|line| line.stall.same_channel(&ours)) {
                lines.remove(&vm);
            }
        });
        known
    }

    fn line(&self, vm: &VmId) -> Option<Line> {
        self.lines.lock().expect("no panic under the lock").get(vm).cloned()
    }

    async fn ask(&self, vm: &VmId, question: Question) -> Result<(), VmmError> {
        match self.line(vm) {
            Some(line) => line.ask(question).await,
            None => Err(VmmError::Control { source: io::ErrorKind::NotConnected.into() }),
        }
    }

    async fn watch_console(
        &self,
        vm: &VmId,
        folder: &Path,
        console: UnixStream,
        output: Option<ServantOutput>,
    ) -> Result<(), VmmError> {
        let place = folder.to_owned();
        let ring = blocking(move || console::Ring::open(&place))
            .await
            .map_err(|source| VmmError::Console { folder: folder.to_owned(), source })?;
        let printed = Arc::new(AtomicU64::new(ring.position()));
        let watched = Watched { printed: printed.clone(), output };
        self.machines.lock().expect("no panic under the lock").insert(vm.clone(), watched);
        let task = console_task::run(vm.clone(), console, ring, printed);
        self.tasks.spawn_until_shutdown("console", task);
        Ok(())
    }
}

#[async_trait]
impl Machines for Qemu {
    async fn choose_accel(
        &self,
        kernel: &Path,
        initramfs: &Path,
        digest: &Digest,
    ) -> PortResult<Accel> {
        Ok(probe::choose(self, kernel, initramfs, digest).await?)
    }

    async fn start(&self, spec: MachineSpec, ledger: &dyn Ledger) -> PortResult<StartedMachine> {
        Ok(self.start_machine(spec, ledger).await?)
    }

    async fn adopt(&self, vm: &VmId, folder: &Path, monitor: ProcessId) -> PortResult<()> {
        let failed = |source| VmmError::Control { source };
        let Some(process) = Process::open(monitor).map_err(failed)? else { return Ok(()) };
        let known = self.keep_control(vm, folder, process, None);
        let look = tokio::time::timeout(FIRST_LOOK, known);
        let console = async {
            let Some(process) = Process::open(monitor).map_err(failed)? else { return Ok(()) };
            let qemu = &self.settings.qemu;
            let console = connect(qemu, folder, CONSOLE_SOCKET, &process, None).await?;
            self.watch_console(vm, folder, console, None).await
        };
        let (_looked, console) = tokio::join!(look, console);
        Ok(console?)
    }

    async fn grow_work_disk(&self, vm: &VmId, bytes: u64) -> PortResult<()> {
        let drive = boot::WORK_DISK;
        Ok(self.ask(vm, Question::Resize { drive, bytes }).await?)
    }

    fn console_position(&self, vm: &VmId) -> u64 {
        let machines = self.machines.lock().expect("no panic under the lock");
        machines.get(vm).map_or(0, |watched| watched.printed.load(Ordering::Relaxed))
    }

    async fn clear(&self, folder: &Path) -> PortResult<()> {
        let folder = folder.to_owned();
        Ok(blocking(move || boot_files::clear(&folder)).await?)
    }

    async fn last_words(&self, vm: &VmId, folder: &Path) -> Option<String> {
        let said = {
            let machines = self.machines.lock().expect("no panic under the lock");
            machines.get(vm).and_then(|watched| watched.output.as_ref()).map(ServantOutput::text)
        };
        let folder = folder.to_owned();
        let console = blocking(move || console::read(&folder, None)).await;
        let console = console.map(|piece| piece.bytes).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = said
            .iter()
            .flat_map(|said| said.lines())
            .chain(console.lines())
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        let short = last.iter().map(|line| line.chars().take(300).collect::<String>());
        let text = escape_control(&short.collect::<Vec<_>>().join("\n"));
        Some(text).filter(|text| !text.is_empty())
    }

    async fn console(&self, folder: &Path, from: Option<u64>) -> PortResult<(Vec<u8>, u64, u64)> {
        let place = folder.to_owned();
        let piece = blocking(move || console::read(&place, from))
            .await
            .map_err(|source| VmmError::Console { folder: folder.to_owned(), source })?;
        Ok((piece.bytes, piece.next, piece.lost))
    }
}

#[async_trait]
impl Stalls for Qemu {
    fn watch(&self, vm: &VmId) -> watch::Receiver<Option<Stall>> {
        self.line(vm).map_or_else(|| watch::channel(None).1, |line| line.stall)
    }

    async fn go_on(&self, vm: &VmId) -> PortResult<()> {
        Ok(self.ask(vm, Question::GoOn).await?)
    }
}
