//! The floor: the bare monitor in this process, without the daemon.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::config::{Config, Paths, search_path};
use crate::daemon::{MachineParts, machine_parts, scratch};
use crate::guest::{Agent, Dial};
use crate::id::{BootId, VmId};
use crate::report::{Kind, Report};
use crate::task::Tasks;
use crate::vm::plan::WorkDiskPlan;
use crate::vm::ports::{BootFiles, BootSource as _, Disks as _, MachineSpec, Machines as _};
use crate::vm::state::{Accel, VsockAddress};
use crate::vmm::qemu::BareMachine;
use crate::wire::guest::{Exec, Setup};
use crate::wire::proof::BootKey;

use super::cove::{TRUE, ended};

/// How long a bare machine may take to power off.
const POWER_OFF: Duration = Duration::from_secs(60);

/// What bare machines are started from: all that the daemon would take.
pub(super) struct Floor {
    parts: MachineParts,
    files: BootFiles,
    config: Config,
    scratch: PathBuf,
    /// How processors run, in cove's machines and in bare ones.
    pub(super) accel: Accel,
}

/// A bare machine whose agent answers. The machine goes before its folder does.
pub(super) struct Booted {
    /// From the start of its first program to the agent's answer.
    pub(super) took: Duration,
    agent: Agent,
    machine: BareMachine,
    folder: TempDir,
}

impl Floor {
    /// With the configuration and the files of the daemon that this client would start.
    pub(super) async fn open(paths: &Paths, config: Config) -> Result<Self, Report> {
        let parts = machine_parts(paths, &config, search_path(), &Tasks::default());
        let files = parts.boot_source.resolve(&config.vm.image).await?;
        let accel =
            parts.qemu.choose_accel(&files.kernel, &files.initramfs, &files.kernel_digest).await?;
        Ok(Self { parts, files, config, scratch: scratch(paths), accel })
    }

    /// Starts a machine and waits until its agent answers. Disks and initramfs are made before the
    /// clock starts.
    pub(super) async fn boot(&self) -> Result<Booted, Report> {
        std::fs::create_dir_all(&self.scratch)
            .map_err(|error| super::cannot("make", &self.scratch, &error))?;
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&self.scratch);
        let folder = folder.map_err(|error| super::cannot("use", &self.scratch, &error))?;
        let defaults = &self.config.vm;
        let (work, root) = (defaults.disk.bytes(), defaults.root_disk.bytes());
        self.parts.disks.make(folder.path(), work, root).await?;
        let spec = self.spec(folder.path().to_owned());
        self.parts.qemu.prepare_bare(&spec).await?;
        let deadline = Duration::from_secs(self.config.monitor.boot_seconds);

        let began = Instant::now();
        let machine = self.parts.qemu.start_bare(&spec).await?;
        let dial = match machine.address() {
            VsockAddress::Socket { name } => {
                Dial::Unix { folder: spec.folder.clone(), socket: name.clone() }
            }
            VsockAddress::Context { cid } => Dial::Vsock { cid: *cid },
        };
        let agent = Agent::new(dial, spec.key.clone(), spec.boot_id.clone());
        // Both arms are cancel-safe: an unfinished connection is dropped, readiness is not consumed.
        tokio::select! {
            answered = agent.wait_answering(deadline) => {
                answered.map_err(|error| Report::of(&error))?;
            }
            () = machine.ended() => {
                return Err(Report::new(Kind::Failed, "the bare machine ended before it answered"));
            }
        }
        Ok(Booted { took: began.elapsed(), agent, machine, folder })
    }

    fn spec(&self, folder: PathBuf) -> MachineSpec {
        MachineSpec {
            vm: VmId::random(),
            folder,
            kernel: self.files.kernel.clone(),
            initramfs: self.files.initramfs.clone(),
            image: self.files.image.clone(),
            accel: self.accel,
            vcpu: self.config.vm.vcpu,
            memory_mib: self.config.vm.memory.mebibytes(),
            boot_id: BootId::random(),
            key: BootKey::random(),
            network: None,
        }
    }
}

impl Booted {
    /// Gives it an identity and no plan, so that it runs programs.
    pub(super) async fn set_up(&self) -> Result<(), Report> {
        let setup = Setup {
            vm: VmId::random(),
            hostname: "bench".to_owned(),
            unix_time_ns: i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
            entropy: format!("{}{}", BootKey::random().to_hex(), BootKey::random().to_hex()),
            network: None,
            ssh_host_key: None,
            steps: 0,
        };
        let done = self.agent.set_up(setup, WorkDiskPlan::default()).await;
        done.map_err(|error| Report::of(&error))
    }

    /// Runs a program that does nothing, over the connection of the one before, as the daemon does.
    pub(super) async fn run_true(&self) -> Result<(), Report> {
        let exec = Exec { argv: vec![TRUE.to_owned()], env: Vec::new(), cwd: None, tty: None };
        let stream = self.agent.exec(&exec).await.map_err(|error| Report::of(&error))?;
        ended(&mut stream.framed()).await
    }

    /// Asks it to power off and waits until its monitor has ended. How long that took.
    pub(super) async fn power_off(&self) -> Result<Duration, Report> {
        let began = Instant::now();
        self.agent.power_off().await.map_err(|error| Report::of(&error))?;
        let ended = tokio::time::timeout(POWER_OFF, self.machine.ended()).await;
        ended.map_err(|_| Report::new(Kind::TimedOut, "a bare machine does not power off"))?;
        Ok(began.elapsed())
    }

    /// Kills it if it still runs, and removes its files.
    pub(super) async fn end(self) -> Result<(), Report> {
        let Self { machine, folder, .. } = self;
        let ended = machine.end().await;
        ended
            .map_err(|error| super::super::output::failed("a bare machine does not end", &error))?;
        let path = folder.path().to_owned();
        folder.close().map_err(|error| super::cannot("remove", &path, &error))
    }
}
