//! What the VM service needs from the rest of the daemon: small traits that it owns, wired to the real
//! things in one place (`daemon`), and to memory in tests. Failures cross these borders as reports.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::ledger::{Ledger, ResourceKind};
use super::plan::WorkDiskPlan;
use super::record::{Stored, VmRecord};
use super::state::{Accel, Boot, VsockAddress};
use crate::id::{BootId, Digest, ExecId, ImageName, VmId, VmName};
use crate::process::{ProcessId, Usage};
use crate::report::Report;
use crate::wire::guest::{
    CopyFiles, Detach, DetachOutcome, DetachedPrograms, Exec, GuestStats, Health, Listening, Setup,
    TreeChange,
};
use crate::wire::proof::BootKey;
use crate::wire::rpc::{CreateWorkspace, NetMode, VmWorkspace, WorkspacePlan};
use crate::wire::survey::ListedBy;

mod forwards;
mod hooks;
mod networks;
mod trees;
mod work;

pub use super::still::DiskInUse;
pub use forwards::Forwards;
pub use hooks::{HookRan, Hooked, HookedGuest, HookedVm, Intent, VmHooks};
pub use networks::{Attachment, Networks, NotSet, Outbound};
pub use trees::NotTaken;
pub use work::{LastSeen, Work, WorkSeen, WorkspaceOf};

/// A port's failure.
pub type PortResult<T> = Result<T, Report>;

/// The rows of VMs and of their resources.
#[async_trait]
pub trait Rows: Send + Sync {
    /// Writes a new VM together with the row of its folder. Another VM of that name is a conflict.
    async fn insert(&self, vm: &VmRecord) -> PortResult<()>;
    /// Writes what has changed of a VM.
    async fn update(&self, vm: &VmRecord) -> PortResult<()>;
    /// Removes a VM whose resources are all gone.
    async fn remove(&self, vm: &VmId) -> PortResult<()>;
    /// All VMs, and the rows that cannot be read.
    async fn all(&self) -> PortResult<Stored>;
    /// The ledger of one VM.
    fn ledger(&self, vm: &VmId) -> Arc<dyn Ledger>;
    /// The resources a VM has or may have.
    async fn resources(&self, vm: &VmId) -> PortResult<Vec<(ResourceKind, Option<ProcessId>)>>;
    /// A resource is gone.
    async fn released(&self, vm: &VmId, kind: ResourceKind) -> PortResult<()>;
}

/// Processes of the host.
#[async_trait]
pub trait Processes: Send + Sync {
    /// Whether this very process lives.
    fn alive(&self, process: ProcessId) -> PortResult<bool>;
    /// Waits for its end.
    async fn ended(&self, process: ProcessId) -> PortResult<()>;
    /// Kills it and waits for its end. A process that is gone, or whose pid is somebody else's by now,
    /// is no error and gets no signal.
    async fn kill(&self, process: ProcessId) -> PortResult<()>;
    /// Sends it a signal. A process that is gone, or whose pid is somebody else's, gets none.
    async fn signal(&self, process: ProcessId, signal: Signal) -> PortResult<()>;
    /// What it has used and uses. None when it is gone.
    async fn usage(&self, process: ProcessId) -> PortResult<Option<Usage>>;
    /// Processes of this user that carry the VM's id among their arguments.
    fn find(&self, vm: &VmId) -> Vec<ProcessId>;
}

/// What a machine is started from.
#[derive(Debug)]
pub struct MachineSpec {
    /// The VM.
    pub vm: VmId,
    /// Its folder, with its disks.
    pub folder: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs that all boots share.
    pub initramfs: PathBuf,
    /// The root image.
    pub image: PathBuf,
    /// How processors are to run.
    pub accel: Accel,
    /// Virtual processors.
    pub vcpu: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The boot's id.
    pub boot_id: BootId,
    /// The boot's key.
    pub key: BootKey,
    /// The network device and what is behind it.
    pub network: Option<Attachment>,
}

/// A machine that has been started.
#[derive(Debug, Clone)]
pub struct StartedMachine {
    /// The monitor.
    pub monitor: ProcessId,
    /// How its vsock is reached.
    pub vsock: VsockAddress,
}

/// Monitors.
#[async_trait]
pub trait Machines: Send + Sync {
    /// How processors can run here: decided once by really booting, then remembered.
    async fn choose_accel(
        &self,
        kernel: &Path,
        initramfs: &Path,
        digest: &Digest,
    ) -> PortResult<Accel>;
    /// Starts a machine, and its console's ring.
    async fn start(&self, spec: MachineSpec, ledger: &dyn Ledger) -> PortResult<StartedMachine>;
    /// Takes up a machine that was started by an earlier daemon: its console's ring, and whether it stands
    /// still.
    async fn adopt(&self, vm: &VmId, folder: &Path, monitor: ProcessId) -> PortResult<()>;
    /// Tells a machine that its work disk's file has grown.
    async fn grow_work_disk(&self, vm: &VmId, bytes: u64) -> PortResult<()>;
    /// Removes what an ended boot has left in the VM's folder besides disks and console: its sockets, and the
    /// initramfs with its key. What is not there is no error.
    async fn clear(&self, folder: &Path) -> PortResult<()>;
    /// How many bytes the guest has written to its console since the VM's first start.
    fn console_position(&self, vm: &VmId) -> u64;
    /// The last lines of the console and of the monitor's own output, for an error's cause.
    async fn last_words(&self, vm: &VmId, folder: &Path) -> Option<String>;
    /// The console from a position on: text, its end, and how many bytes were lost before it.
    async fn console(&self, folder: &Path, from: Option<u64>) -> PortResult<(Vec<u8>, u64, u64)>;
}

/// Why a machine stands still: the host did not take a write to one of its disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// The host's disk is full.
    NoRoom,
    /// The host's disk fails.
    Failed,
}

/// Machines that stand still because the host does not take what their guests write.
#[async_trait]
pub trait Stalls: Send + Sync {
    /// Why the VM's machine stands still; none while it goes on. Closed where no machine runs.
    fn watch(&self, vm: &VmId) -> watch::Receiver<Option<Stall>>;
    /// Has the machine go on. It tries again what it could not write, and may stand still again at once.
    async fn go_on(&self, vm: &VmId) -> PortResult<()>;
}

/// The work disk's file in a VM's folder.
pub const WORK_DISK: &str = "work.ext4";
/// The overlay disk's file in a VM's folder.
pub const ROOT_DISK: &str = "root.ext4";

/// A copy out of the work disk of a VM at rest.
#[derive(Debug)]
pub struct DiskCopy {
    /// The VM.
    pub vm: VmName,
    /// Its folder, with its disks.
    pub folder: PathBuf,
    /// What is copied: a path in the guest, relative to the home, absolute, or beginning with `~/`.
    pub path: String,
    /// Kept until nothing reads the disk any more.
    pub in_use: DiskInUse,
}

/// Disk files.
#[async_trait]
pub trait Disks: Send + Sync {
    /// Makes the VM's folder with its disks. Nothing is left when it fails.
    async fn make(&self, folder: &Path, work_bytes: u64, root_bytes: u64) -> PortResult<()>;
    /// Makes the work disk's file so long, unless it is that or more. What is in it is the guest's.
    async fn grow(&self, folder: &Path, work_bytes: u64) -> PortResult<()>;
    /// What the work disk and the overlay disk take up on the host, in bytes.
    async fn taken(&self, folder: &Path) -> PortResult<(u64, u64)>;
    /// Begins a copy out of the work disk of a VM at rest, and returns a stream of frames, as a guest's agent has
    /// it.
    async fn copy_out(&self, wanted: DiskCopy) -> PortResult<Box<dyn ByteStream>>;
    /// Removes the VM's folder. One that is not there is no error.
    async fn remove(&self, folder: &Path) -> PortResult<()>;
    /// Moves a folder that belongs to no VM out of the way, to a place of its own beside all VMs', which is
    /// returned: what is in it may be the only copy of somebody's work.
    async fn set_aside(&self, folder: &Path) -> PortResult<PathBuf>;
    /// The folders there are, by name.
    async fn folders(&self, all: &Path) -> PortResult<Vec<PathBuf>>;
}

/// What a boot needs besides disks.
#[derive(Debug, Clone)]
pub struct BootFiles {
    /// The root image.
    pub image: PathBuf,
    /// Its digest.
    pub image_digest: Digest,
    /// The kernel.
    pub kernel: PathBuf,
    /// Its digest.
    pub kernel_digest: Digest,
    /// cove's initramfs for that kernel.
    pub initramfs: PathBuf,
}

/// Images and kernels.
#[async_trait]
pub trait BootSource: Send + Sync {
    /// The present image of that name with the default kernel.
    async fn resolve(&self, image: &ImageName) -> PortResult<BootFiles>;
    /// The files a VM was made with.
    async fn of_vm(&self, image: &Digest, kernel: &Digest) -> PortResult<BootFiles>;
}

/// What a guest's agent sees of the system it runs in, and does to it.
#[async_trait]
pub trait GuestSystem: Send + Sync {
    /// How busy and how full it is.
    async fn stats(&self) -> PortResult<GuestStats>;
    /// The sockets that wait for others.
    async fn listening(&self) -> PortResult<Listening>;
    /// Grows the work disk's file system to its device, which is about to have so many bytes.
    async fn grow_work_disk(&self, bytes: u64) -> PortResult<()>;
    /// Sets its wall clock to the host's.
    async fn set_clock(&self) -> PortResult<()>;
}

/// What a guest's agent does with files and trees.
#[async_trait]
pub trait GuestTrees: Send + Sync {
    /// Makes a folder below the home, or brings it up to date, from the tar stream that `write` writes, on a
    /// blocking thread. Returns the agent's records, by which it knows files again that came.
    async fn receive_tree(
        &self,
        path: &str,
        how: TreeChange,
        write: TreeWrite,
    ) -> Result<Vec<u8>, NotTaken>;
    /// Looks at the tree at `path`, of which the records `known` are known, and other files are found `by` this;
    /// `take` gets the agent's records and the contents that follow, on a blocking thread.
    async fn survey(
        &self,
        path: &str,
        by: ListedBy,
        known: Vec<u8>,
        take: SurveyTake,
    ) -> PortResult<()>;
    /// Begins a copy and returns its stream of frames, from the reply on.
    async fn copy(&self, files: &CopyFiles) -> PortResult<Box<dyn ByteStream>>;
}

/// Programs of a guest that run with nobody there.
#[async_trait]
pub trait GuestDetached: Send + Sync {
    /// Starts one.
    async fn detach(&self, detach: Detach) -> PortResult<DetachOutcome>;
    /// Attaches to one and returns its stream of frames, from the reply on.
    async fn attach(&self, id: &ExecId) -> PortResult<Box<dyn ByteStream>>;
    /// All that run or have run.
    async fn detached(&self) -> PortResult<DetachedPrograms>;
}

/// A guest's agent.
#[async_trait]
pub trait Guest: GuestSystem + GuestTrees + GuestDetached {
    /// Waits until it answers.
    async fn wait_answering(&self, deadline: Duration) -> PortResult<Health>;
    /// How it is.
    async fn health(&self) -> PortResult<Health>;
    /// Hands over identity and plan.
    async fn set_up(&self, setup: Setup, plan: WorkDiskPlan) -> PortResult<()>;
    /// Starts a program and returns its stream of frames, from the reply on.
    async fn exec(&self, exec: &Exec) -> PortResult<Box<dyn ByteStream>>;
    /// Connects to one of its ports and returns the stream of frames, from the reply on.
    async fn connect(&self, port: u16) -> PortResult<Box<dyn ByteStream>>;
    /// Asks it to power off.
    async fn power_off(&self) -> PortResult<()>;
}

/// Writes a tar stream.
pub type TreeWrite = Box<dyn FnOnce(&mut dyn std::io::Write) -> PortResult<()> + Send>;

/// Takes what an agent sees of a tree: its records, and the contents that follow.
pub type SurveyTake = Box<dyn FnOnce(&[u8], &mut dyn std::io::Read) -> PortResult<()> + Send>;

/// A stream of bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Makes the connection to a guest.
pub trait Guests: Send + Sync {
    /// The guest of this boot.
    fn guest(
        &self,
        folder: &Path,
        vsock: &VsockAddress,
        key: BootKey,
        boot: &BootId,
    ) -> Arc<dyn Guest>;
}

/// What a start needs of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Memory of the guest in MiB.
    pub memory_mib: u64,
    /// Its network.
    pub net: NetMode,
}

/// Looks whether the host can start a VM, before anything is made for it.
#[async_trait]
pub trait Preflight: Send + Sync {
    /// Returns what the user should know although the VM can start.
    async fn check(&self, needs: &Needs) -> PortResult<Vec<String>>;
}

/// Repositories of the host.
#[async_trait]
pub trait Checkouts: Send + Sync {
    /// Looks at a repository before anything is made.
    async fn inspect(&self, wanted: &CreateWorkspace) -> PortResult<Arc<dyn Checkout>>;
}

/// One repository that is to go in.
#[async_trait]
pub trait Checkout: Send + Sync {
    /// What would go in, for people.
    fn plan(&self) -> WorkspacePlan;
    /// What the VM's row says of it.
    fn record(&self) -> VmWorkspace;
    /// Things the user should know.
    fn notes(&self) -> Vec<String>;
    /// Makes everything ready that needs no guest.
    async fn pack(&self) -> PortResult<Box<dyn PackedCheckout>>;
}

/// A repository that is ready to be sent.
#[async_trait]
pub trait PackedCheckout: Send {
    /// Sends it, and keeps in the folder `kept` what went in.
    async fn deliver(self: Box<Self>, guest: &dyn Guest, kept: &Path) -> PortResult<()>;
}

/// All the ports, as the composition root wires them.
#[derive(Clone)]
pub struct Ports {
    /// Rows.
    pub rows: Arc<dyn Rows>,
    /// Processes.
    pub processes: Arc<dyn Processes>,
    /// Monitors.
    pub machines: Arc<dyn Machines>,
    /// Machines that stand still.
    pub stalls: Arc<dyn Stalls>,
    /// Networks.
    pub networks: Arc<dyn Networks>,
    /// What VMs that run may reach.
    pub outbound: Arc<dyn Outbound>,
    /// Disks.
    pub disks: Arc<dyn Disks>,
    /// Images and kernels.
    pub boot_source: Arc<dyn BootSource>,
    /// Guests.
    pub guests: Arc<dyn Guests>,
    /// Hooks.
    pub hooks: Arc<dyn VmHooks>,
    /// Ports of the host.
    pub forwards: Arc<dyn Forwards>,
    /// Repositories.
    pub checkouts: Arc<dyn Checkouts>,
    /// What was done in them.
    pub work: Arc<dyn Work>,
    /// What the host has.
    pub preflight: Arc<dyn Preflight>,
}

impl Ports {
    /// The guest of a boot.
    #[must_use]
    pub fn guest_of(&self, folder: &Path, boot: &Boot) -> Option<Arc<dyn Guest>> {
        let key = BootKey::from_hex(&boot.key)?;
        Some(self.guests.guest(folder, &boot.vsock, key, &boot.id))
    }
}
