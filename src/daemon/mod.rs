//! The composition root: makes the real things, wires them to the ports, and runs the daemon.
//!
//! Everything that knows two sides of the house is here, one file per port, and nothing else is.

mod checkouts;
mod checks;
mod course;
mod error;
mod face;
mod forwards;
mod guests;
mod hook_runs;
mod hooks;
pub mod images;
pub mod log;
mod networks;
mod plugins;
mod processes;
mod programs;
mod workspaces;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

pub use self::error::StartError;
use crate::config::{Config, MonitorConfig, Paths};
use crate::disk::{DiskFiles, Readers};
use crate::image::Images;
use crate::net::Networks;
use crate::rpc::server::{Limits, Loopback, ServeError, Services, Socket, serve};
use crate::store::Store;
use crate::task::Tasks;
use crate::vm::ports::Ports;
use crate::vm::{CreateDefaults, StartDeadlines, VmService, VmSettings};
use crate::vmm::qemu::{Qemu, QemuSettings};
use crate::workspace::{WorkspaceError, WorkspaceSettings, Workspaces};

/// How long tasks may take to end at shutdown.
const GRACE: Duration = Duration::from_secs(10);

/// The vsock program that set-up installs into the cache: a version, with a version of our patch to it.
const VSOCK_PROGRAM: &str = "tools/vhost-device-vsock-0.3.0-patch2/bin/vhost-device-vsock";

/// The home of the guest's login user.
const GUEST_HOME: &str = "/root";

/// A daemon that is ready to serve.
pub struct Daemon {
    socket: Socket,
    loopback: Option<Loopback>,
    services: Services,
    tasks: Tasks,
    store: Arc<Store>,
    /// Held as long as the daemon lives.
    home: Home,
}

/// A folder that this daemon has for itself: nothing is written into it before.
#[derive(Debug)]
pub struct Home {
    _lock: Flock<File>,
}

/// Makes the daemon in a home that was taken: reads the configuration, opens the database, takes up living
/// VMs, and listens. `search_path` is the `PATH` for the programs it starts.
///
/// # Errors
/// When one of these cannot be done.
pub async fn build(home: Home, paths: Paths, search_path: OsString) -> Result<Daemon, StartError> {
    let config = Config::load(&paths.config).map_err(StartError::Config)?;
    let tasks = Tasks::default();
    let coved = paths.programs.join("coved");
    let on_bridge = networks::on_bridge(&config.net).map_err(StartError::Bridge)?;
    let store = Store::open(&paths.database).map_err(StartError::Store)?;
    let ranges = on_bridge.setup.ranges();
    let store = Arc::new(store.giving(ranges));
    let hook_host = hooks::host(&paths, &config, &coved).await?;
    let workspaces = Arc::new(repositories(&paths, &config).map_err(StartError::Workspace)?);
    let parts = machine_parts(&paths, &config, search_path.clone(), &tasks);
    let (qemu, boot_source) = (Arc::new(parts.qemu), Arc::new(parts.boot_source));
    let ahead = networks::ahead(&paths, &config, &store);
    let networks = Arc::new(Networks::new(coved, &search_path, ahead, on_bridge, tasks.clone()));
    networks.recover().await;
    let vm_networks = networks::VmNetworks::new(&networks, &store, ranges);
    let hooks = Arc::new(hooks::Hooks::new(hook_host.clone(), &paths, &config));
    let checks = Arc::new(checks::Checks {
        qemu: qemu.clone(),
        networks,
        images: boot_source.clone(),
        hooks: hook_host.clone(),
        plugins: hooks.clone(),
        home: paths.home.clone(),
        lost: lost(&paths),
        vms: paths.vms(),
        database: paths.database.clone(),
        rows: store.clone(),
        image: config.vm.image.clone(),
        net: config.vm.net,
        keep_free: config.vm.keep_free,
    });
    let looks = Arc::new(workspaces::Looks::default());
    let ports = Ports {
        rows: store.clone(),
        processes: Arc::new(processes::HostProcesses),
        machines: qemu.clone(),
        stalls: qemu,
        networks: Arc::new(vm_networks.clone()),
        outbound: Arc::new(vm_networks),
        disks: Arc::new(parts.disks),
        boot_source,
        guests: Arc::new(guests::Agents::new(tasks.clone())),
        hooks: hooks.clone(),
        forwards: Arc::new(forwards::HostPorts::new(tasks.clone())),
        checkouts: Arc::new(checkouts::Repositories(workspaces.clone())),
        work: looks.clone(),
        preflight: checks.clone(),
    };
    let vms = VmService::new(ports, vm_settings(&paths, &config), tasks.clone());
    hook_host.tell_to(vms.events().clone());
    vms.recover().await.map_err(StartError::Recover)?;
    let (socket, loopback) = listen(&paths, &config).await.map_err(StartError::Socket)?;
    let face = face::Face::new(paths, config, checks, &vms, &tasks);
    let hook_runs = Arc::new(hook_runs::Runs { hooks, vms: vms.clone() });
    let plugins = Arc::new(plugins::Registered(hook_host));
    let workspaces = Arc::new(workspaces::Exports::new(workspaces, vms.clone(), looks));
    let services = Services { vms, daemon: Arc::new(face), plugins, hook_runs, workspaces };
    Ok(Daemon { socket, loopback, services, tasks, store, home })
}

fn repositories(paths: &Paths, config: &Config) -> Result<Workspaces, WorkspaceError> {
    Workspaces::new(WorkspaceSettings {
        scratch: scratch(paths).join("workspaces"),
        depth: config.workspace.depth,
    })
}

async fn listen(paths: &Paths, config: &Config) -> Result<(Socket, Option<Loopback>), ServeError> {
    let socket = Socket::listen(&paths.socket)?;
    let loopback = match config.rpc.listen {
        Some(address) => Some(Loopback::listen(address.get(), &paths.token()).await?),
        None => None,
    };
    Ok((socket, loopback))
}

/// What machines are made with, in the daemon and by hand in `cove bench`.
pub struct MachineParts {
    /// The monitor.
    pub qemu: Qemu,
    /// Images, kernels and the initramfs.
    pub boot_source: images::BootImages,
    /// Disk files.
    pub disks: DiskFiles,
}

/// Makes them. Touches nothing.
#[must_use]
pub fn machine_parts(
    paths: &Paths,
    config: &Config,
    search_path: OsString,
    tasks: &Tasks,
) -> MachineParts {
    let images = Images::open(&paths.home, &paths.cache);
    let program = paths.programs.join("coved");
    let readers = Readers { program, home: GUEST_HOME.to_owned(), tasks: tasks.clone() };
    MachineParts {
        qemu: Qemu::new(qemu_settings(paths, &config.monitor, search_path), tasks.clone()),
        boot_source: images::BootImages::new(images, paths.programs.join("cove-agent")),
        disks: DiskFiles::new(paths.home.join("seeds"), lost(paths), readers),
    }
}

/// Where folders of VMs lie that no database knew.
pub(crate) fn lost(paths: &Paths) -> PathBuf {
    paths.home.join("lost")
}

/// Where files lie for a moment.
#[must_use]
pub fn scratch(paths: &Paths) -> PathBuf {
    paths.home.join("scratch")
}

impl Daemon {
    /// Serves until it is told to end by an RPC or a signal. VMs go on.
    pub async fn run(self) {
        let (socket, loopback, tasks) = (self.socket, self.loopback, self.tasks.clone());
        let serve = serve(socket, loopback, self.services, Limits::default(), tasks);
        let server = self.tasks.spawn("server", serve);
        self.tasks.shutdown().cancelled().await;
        tracing::info!("ending; VMs go on");
        server.await.unwrap_or_else(|error| tracing::error!(%error, "the server failed"));
        let left = self.tasks.drain(GRACE).await;
        if left > 0 {
            tracing::warn!(left, "tasks did not end in time");
        }
        // Before the home is given up, so that no two daemons have the database open.
        if tokio::time::timeout(GRACE, self.store.close()).await.is_err() {
            tracing::warn!("the database was not closed in time");
        }
        drop(self.home);
    }

    /// The daemon's tasks, to end them by a signal.
    #[must_use]
    pub fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }
}

/// Makes the daemon's folder, private, and locks it.
///
/// # Errors
/// When it cannot be made, is somebody else's, or another daemon has it.
pub fn take_home(home: &Path) -> Result<Home, StartError> {
    use std::os::unix::fs::MetadataExt;
    let failed = |source| StartError::Folder { path: home.to_owned(), source };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(home).map_err(failed)?;
    let owner = std::fs::metadata(home).map_err(failed)?.uid();
    if owner != nix::unistd::geteuid().as_raw() {
        return Err(StartError::NotOurs { path: home.to_owned(), owner });
    }
    let path = home.join("lock");
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).open(&path);
    let mut lock = match Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
            let pid = std::fs::read_to_string(&path).ok();
            let pid = pid.map(|pid| pid.trim().to_owned());
            return Err(StartError::Held {
                path: home.to_owned(),
                pid: pid.filter(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit())),
            });
        }
        Err((_, errno)) => return Err(failed(errno.into())),
    };
    let pid = format!("{}\n", std::process::id());
    lock.set_len(0).map_err(failed)?;
    io::Write::write_all(&mut *lock, pid.as_bytes()).map_err(failed)?;
    Ok(Home { _lock: lock })
}

fn vm_settings(paths: &Paths, config: &Config) -> VmSettings {
    VmSettings {
        vms: paths.vms(),
        consoles: paths.consoles(),
        start: StartDeadlines {
            life: Duration::from_secs(config.monitor.life_seconds),
            boot: Duration::from_secs(config.monitor.boot_seconds),
        },
        stop: Duration::from_secs(config.monitor.stop_seconds),
        host_memory_mib: host_memory_mib(),
        defaults: CreateDefaults {
            image: config.vm.image.clone(),
            vcpu: config.vm.vcpu,
            memory: config.vm.memory,
            disk: config.vm.disk,
            root_disk: config.vm.root_disk,
            net: config.vm.net,
            egress: config.net.policy(),
        },
    }
}

/// The host's memory in MiB. Where it cannot be told, a VM's is not bounded by it.
fn host_memory_mib() -> u64 {
    use procfs::Current as _;
    match procfs::Meminfo::current() {
        Ok(memory) => memory.mem_total >> 20,
        Err(error) => {
            tracing::warn!(%error, "cannot tell how much memory this host has");
            u64::MAX
        }
    }
}

fn qemu_settings(paths: &Paths, config: &MonitorConfig, search_path: OsString) -> QemuSettings {
    let vsock = match config.vhost_device_vsock.as_os_str().is_empty() {
        true => paths.cache.join(VSOCK_PROGRAM),
        false => config.vhost_device_vsock.clone(),
    };
    QemuSettings {
        qemu: config.qemu.clone(),
        vhost_device_vsock: vsock,
        accel: config.accel,
        search_path,
        verdicts: paths.cache.join("accelerator.json"),
        scratch: scratch(paths),
    }
}

/// Lets the daemon open as many files as the system allows it: every file that hooks import stays open
/// until it has been sent, and shells begin with a low limit for historical reasons.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Ends the daemon when it gets SIGTERM, SIGINT or SIGHUP.
///
/// # Panics
/// When the kernel refuses signal handlers, which it does not.
pub fn end_on_signals(tasks: &Tasks) {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    for kind in kinds {
        let mut arrives = signal(kind).expect("signals can be handled");
        let shutdown = tasks.shutdown();
        tasks.spawn("signal", async move {
            // Both arms are cancel-safe.
            tokio::select! {
                _ = arrives.recv() => shutdown.cancel(),
                () = shutdown.cancelled() => {}
            }
        });
    }
}
