//! QEMU: the monitor that is in every distribution and needs no KVM.
//!
//! A machine is two servants in the VM's folder: the vsock device's process, where the kernel has no
//! vhost-vsock, and QEMU. Both outlive the daemon. The daemon keeps a connection to the console socket
//! and writes what comes into the ring; without a daemon QEMU drops what the guest prints.

mod bare;
mod boot_files;
mod clock;
mod command;
mod console_task;
mod control;
mod probe;
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

use super::accel::Verdicts;
use super::{VmmError, console};
use crate::config::AccelChoice;
use crate::id::{Digest, VmId};
use crate::process::{
    FileStamp, Process, ProcessId, Servant, ServantOutput, ShortFolder, Tool, find_program,
};
use crate::report::escape_control;
use crate::task::Tasks;
use crate::vm::ledger::{Ledger, ResourceKind};
use crate::vm::ports::{MachineSpec, Machines, PortResult, StartedMachine};
use crate::vm::state::Accel;
use crate::wire::boot;
pub use bare::BareMachine;
use command::{CONSOLE_SOCKET, Machine, QMP_SOCKET, TAP_DESCRIPTOR, VsockDevice};

/// How long a servant may take to open its socket. QEMU needs some 100 ms; ten at once on a busy
/// machine need seconds.
const SOCKET_DEADLINE: Duration = Duration::from_secs(30);

/// How often a socket that is not there yet is tried again.
const SOCKET_RETRY: Duration = Duration::from_millis(2);

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
    verdicts: Verdicts,
    counter: clock::HostCounter,
    machines: Mutex<HashMap<VmId, Watched>>,
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
        let verdicts = Verdicts::new(settings.verdicts.clone());
        Self {
            settings,
            tasks,
            verdicts,
            machines: Mutex::default(),
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
        let file = find_program(program, &self.settings.search_path);
        let stamp = file.and_then(|file| FileStamp::of(&file).ok());
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
        self.watch_console(&spec.vm, &spec.folder, console, Some(output))?;
        control::check(control).await?;
        Ok(StartedMachine { monitor, vsock: address })
    }

    fn watch_console(
        &self,
        vm: &VmId,
        folder: &Path,
        console: UnixStream,
        output: Option<ServantOutput>,
    ) -> Result<(), VmmError> {
        let ring = console::Ring::open(folder)
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
        let console_failed = |source| VmmError::Console { folder: folder.to_owned(), source };
        let Some(process) = Process::open(monitor).map_err(console_failed)? else { return Ok(()) };
        let qemu = &self.settings.qemu;
        let console = connect(qemu, folder, CONSOLE_SOCKET, &process, None).await?;
        Ok(self.watch_console(vm, folder, console, None)?)
    }

    async fn grow_work_disk(
        &self,
        folder: &Path,
        monitor: ProcessId,
        bytes: u64,
    ) -> PortResult<()> {
        let failed = |source| VmmError::Control { source };
        let process = Process::open(monitor).map_err(failed)?;
        let process = process.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let control = connect(&self.settings.qemu, folder, QMP_SOCKET, &process, None).await?;
        Ok(control::resize(control, boot::WORK_DISK, bytes).await?)
    }

    fn console_position(&self, vm: &VmId) -> u64 {
        let machines = self.machines.lock().expect("no panic under the lock");
        machines.get(vm).map_or(0, |watched| watched.printed.load(Ordering::Relaxed))
    }

    fn clear(&self, folder: &Path) -> PortResult<()> {
        Ok(boot_files::clear(folder)?)
    }

    fn last_words(&self, vm: &VmId, folder: &Path) -> Option<String> {
        let said = {
            let machines = self.machines.lock().expect("no panic under the lock");
            machines.get(vm).and_then(|watched| watched.output.as_ref()).map(ServantOutput::text)
        };
        let console = console::read(folder, None).map(|piece| piece.bytes).unwrap_or_default();
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

    fn console(&self, folder: &Path, from: Option<u64>) -> PortResult<(Vec<u8>, u64, u64)> {
        let piece = console::read(folder, from)
            .map_err(|source| VmmError::Console { folder: folder.to_owned(), source })?;
        Ok((piece.bytes, piece.next, piece.lost))
    }
}

/// Starts a servant with a row before and after.
async fn start_servant(
    servant: Servant,
    kind: ResourceKind,
    ledger: &dyn Ledger,
) -> Result<(Process, ServantOutput), VmmError> {
    ledger.intend(kind).await.map_err(VmmError::Ledger)?;
    let program = servant.program.clone();
    let (process, output) =
        servant.spawn().map_err(|source| VmmError::Spawn { program, source })?;
    // Whoever called tears down what the row says when this fails.
    ledger.made(kind, process.id()).await.map_err(VmmError::Ledger)?;
    Ok((process, output))
}

/// Connects to a servant's socket as soon as it is there.
async fn connect(
    program: &Path,
    folder: &Path,
    socket: &'static str,
    process: &Process,
    output: Option<&ServantOutput>,
) -> Result<UnixStream, VmmError> {
    let failed = |source| VmmError::Control { source };
    let short = ShortFolder::open(folder).map_err(failed)?;
    let path = short.path_of(socket);
    let attempts = async {
        loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => return Ok(stream),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    ) => {}
                Err(error) => return Err(failed(error)),
            }
            tokio::time::sleep(SOCKET_RETRY).await;
        }
    };
    while_alive(program, socket, process, output, attempts).await
}

/// Waits until a servant has made its socket, without connecting: it serves one connection only.
async fn wait_for_socket(
    program: &Path,
    folder: &Path,
    socket: &'static str,
    process: &Process,
    output: &ServantOutput,
) -> Result<(), VmmError> {
    let path = folder.join(socket);
    let there = async {
        while !path.exists() {
            tokio::time::sleep(SOCKET_RETRY).await;
        }
        Ok(())
    };
    while_alive(program, socket, process, Some(output), there).await
}

/// Bounds attempts by the deadline and by the servant's life. There is no event that tells of a socket,
/// so attempts are made every few milliseconds.
async fn while_alive<T>(
    program: &Path,
    socket: &'static str,
    process: &Process,
    output: Option<&ServantOutput>,
    attempts: impl Future<Output = Result<T, VmmError>>,
) -> Result<T, VmmError> {
    let program = program.to_owned();
    // Both arms are cancel-safe: an unfinished connection is dropped, readiness is not consumed.
    tokio::select! {
        connected = tokio::time::timeout(SOCKET_DEADLINE, attempts) => match connected {
            Ok(connected) => connected,
            Err(_) => Err(VmmError::NoSocket { program, socket, deadline: SOCKET_DEADLINE }),
        },
        _ = process.ended() => {
            let said = output.map(ServantOutput::text).unwrap_or_default();
            Err(VmmError::Ended { program, said: escape_control(&said) })
        }
    }
}
