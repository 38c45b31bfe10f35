//! A daemon of a benchmark's own: the real program over a folder that is thrown away.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::config::{Config, Paths, daemon_environment};
use crate::daemon::scratch;
use crate::id::{Digest, PluginId, VmId};
use crate::process::{Process, ProcessId};
use crate::report::{Kind, Report};
use crate::rpc::client::Client;
use crate::store::Store;
use crate::vm::ports::Rows as _;
use crate::vm::record::{VmRecord, VmSpec};
use crate::vm::state::State;
use crate::wire::guest::SshHostKey;
use crate::wire::rpc::{
    CreateVm, DeleteVm, NetMode, OperationEnd, VmCreate, VmDelete, VmState, VmWorkspace,
    WorkspaceMode,
};

use super::super::super::batch;
use super::super::super::connect::{self, client_context, paths};
use super::super::super::failure::Failure;
use super::super::super::output::{failed, say};
use super::super::super::signals::Signals;

/// How long the daemon may take to end: it drains its tasks.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// Memory of the VMs that run, in MiB.
const SMALL_MIB: u64 = 256;

/// The folder with its daemon, while that runs.
pub(super) struct Home {
    folder: TempDir,
    paths: Paths,
    config: Config,
    daemon: Option<Process>,
}

/// Does `work` with a new folder, and removes all of it however that ends.
pub(super) async fn with_home<T>(
    work: impl AsyncFnOnce(&mut Home) -> Result<T, Report>,
) -> Result<T, Failure> {
    let mut signals = Signals::listen()?;
    let mut home = Home::make(&paths()?)?;
    let done = signals.unless_interrupted(work(&mut home)).await;
    if let Err(left) = home.end().await {
        say(&format!("something of the benchmark is left: {}", left.one_line()));
    }
    done
}

impl Home {
    /// With the user's configuration of VMs and monitors.
    fn make(users: &Paths) -> Result<Self, Report> {
        let config = Config::load(&users.config).map_err(|error| Report::of(&error))?;
        let config = Config { vm: config.vm, monitor: config.monitor, ..Config::default() };
        let scratch = scratch(users);
        std::fs::create_dir_all(&scratch)
            .map_err(|error| super::super::cannot("make", &scratch, &error))?;
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&scratch);
        let folder = folder.map_err(|error| super::super::cannot("use", &scratch, &error))?;
        let paths = users.of_another(folder.path().to_owned());
        write(&paths, &config)?;
        Ok(Self { folder, paths, config, daemon: None })
    }

    /// Sets the settings of a plugin, for the next daemon.
    pub(super) fn configure(
        &mut self,
        plugin: &PluginId,
        settings: toml::Table,
    ) -> Result<(), Report> {
        self.config.hooks.settings.insert(plugin.clone(), settings);
        write(&self.paths, &self.config)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn socket(&self) -> &Path {
        &self.paths.socket
    }

    /// The daemon's process.
    pub(super) fn daemon(&self) -> Result<ProcessId, Report> {
        let daemon = self.daemon.as_ref().map(Process::id);
        daemon.ok_or_else(|| Report::new(Kind::Failed, "the benchmark's daemon does not run"))
    }

    /// Starts the daemon and waits until it listens.
    pub(super) async fn start(&mut self) -> Result<(), Report> {
        let mut environment = daemon_environment();
        environment.retain(|(name, _)| name != "COVE_HOME");
        environment.push(("COVE_HOME".into(), self.folder.path().into()));
        self.daemon = Some(connect::start(&self.paths, environment).await?);
        Ok(())
    }

    /// Deletes what was started, and ends the daemon if it runs.
    pub(super) async fn stop(&mut self) -> Result<(), Report> {
        let Some(daemon) = self.daemon.take() else {
            return Ok(());
        };
        let deleted = self.delete_started().await;
        let ended = async {
            daemon.signal(Signal::TERM)?;
            match tokio::time::timeout(STOP_DEADLINE, daemon.ended()).await {
                Ok(ended) => ended,
                Err(_) => daemon.kill(STOP_DEADLINE).await,
            }
        };
        let ended = ended.await.map_err(|error| failed("the daemon does not end", &error));
        deleted.and(ended)
    }

    async fn end(mut self) -> Result<(), Report> {
        let stopped = self.stop().await;
        let path = self.folder.path().to_owned();
        let removed = self.folder.close();
        let removed = removed.map_err(|error| super::super::cannot("remove", &path, &error));
        stopped.and(removed)
    }

    /// A client of the daemon, which must run.
    pub(super) async fn client(&self) -> Result<Client, Report> {
        Client::connect(&self.paths.socket).await.map_err(|error| Report::of(&error))
    }

    /// Makes VMs that run.
    pub(super) async fn run_vms(&self, count: u32) -> Result<(), Report> {
        let client = self.client().await?;
        for number in 1..=count {
            let wanted = CreateVm {
                name: Some(format!("idle-{number}")),
                memory_mib: Some(SMALL_MIB),
                net: Some(NetMode::None),
                wait: true,
                client: client_context(),
                ..CreateVm::default()
            };
            let operation = client.call::<VmCreate>(wanted).await?;
            if let Some(OperationEnd::Failed { error, .. }) = operation.end {
                return Err(error);
            }
            say(&format!("`{}` runs", operation.vm_name));
        }
        Ok(())
    }

    async fn delete_started(&self) -> Result<(), Report> {
        let client = self.client().await?;
        for vm in batch::all(&client).await? {
            if vm.state != VmState::Created {
                client.call::<VmDelete>(DeleteVm::whatever(vm.id.to_string())).await?;
            }
        }
        Ok(())
    }

    /// Writes VMs into the database, as if they had been made and never started. The daemon must not run.
    pub(super) async fn store(&self, count: u32) -> Result<(), Report> {
        let store = Store::open(&self.paths.database).map_err(|error| Report::of(&error))?;
        for number in 0..count {
            store.insert(&self.record(number)).await?;
        }
        Ok(())
    }

    fn record(&self, number: u32) -> VmRecord {
        let defaults = &self.config.vm;
        let now = crate::vm::now();
        VmRecord {
            id: VmId::random(),
            name: format!("stored-{number}").parse().expect("a valid name"),
            spec: VmSpec {
                peers: [].into(),
                image: defaults.image.clone(),
                image_digest: Digest::of(b"image"),
                kernel_digest: Digest::of(b"kernel"),
                vcpu: defaults.vcpu,
                memory_mib: defaults.memory.mebibytes(),
                disk_bytes: defaults.disk.bytes(),
                root_disk_bytes: defaults.root_disk.bytes(),
                net: defaults.net,
                egress: self.config.net.policy(),
                env: [("LANG".to_owned(), "C.UTF-8".to_owned())].into(),
                labels: [("team".to_owned(), "bench".to_owned())].into(),
                publish: Vec::new(),
                auto_stop_after_s: None,
                ssh_host_key: SshHostKey { private: "private".repeat(50), public: "p".repeat(80) },
            },
            state: State::Created,
            workspace: Some(VmWorkspace {
                guest_path: format!("/root/repository-{number}"),
                source_path: format!("/home/ada/source/repository-{number}"),
                base_commit: Some("0123456789".repeat(4)),
                mode: WorkspaceMode::Shallow,
            }),
            leased: false,
            created_at: now.clone(),
            started_at: None,
            last_touched_at: now,
        }
    }
}

/// Writes the configuration file.
fn write(paths: &Paths, config: &Config) -> Result<(), Report> {
    let text = toml::to_string(config)
        .map_err(|error| failed("the configuration cannot be written", &error))?;
    std::fs::write(&paths.config, text)
        .map_err(|error| super::super::cannot("write", &paths.config, &error))
}
