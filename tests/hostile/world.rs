//! A hook host with plugins in folders of its own, and the real compiler, `coved compile-plugin`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cove::egress::Policy;
use cove::hooks::{
    Ceiling, GitValues, HookError, HookHost, HookInputs, HookOutcome, HookRun, HookSettings,
    HostFilesSource, HostPath, InstallError, MachineView, Purpose, SignatureRules,
};
use cove::wire::rpc::{HookPoint, MachinePlan, NetMode};

use crate::corpus::Hostile;
use crate::points::Guest;

/// Longer than any budget of a plugin: its compilation, its wall time, and the machine's own slowness.
const PATIENCE: Duration = Duration::from_secs(150);

/// A user with plugins.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) settings: HookSettings,
    pub(crate) inputs: HookInputs,
    host: HookHost,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let home = folder.path().join("home");
        let settings = HookSettings {
            standard_folder: folder.path().join("standard"),
            registry_folder: folder.path().join("plugins"),
            // Shared by all tests: what was compiled once need not be compiled again.
            cache_folder: target().join("test-plugin-cache"),
            state_folder: folder.path().join("state"),
            log_folder: folder.path().join("log"),
            compiler: env!("CARGO_BIN_EXE_coved").into(),
            grants: Vec::new(),
            ceiling: Ceiling::default(),
            signatures: SignatureRules::default(),
            disabled: BTreeSet::new(),
        };
        for made in [&home, &settings.standard_folder] {
            fs::create_dir(made).expect("made");
        }
        let inputs = HookInputs {
            purpose: Purpose::Act,
            machine: Some(machine()),
            home: home.clone(),
            host_files: BTreeMap::new(),
            git: GitValues::default(),
            settings: BTreeMap::new(),
        };
        fs::write(home.join("shown"), "shown to plugins\n").expect("written");
        let host = HookHost::open(settings.clone()).await.expect("the engine starts");
        let mut world = Self { folder, settings, inputs, host };
        world.map("importable", "~/shown");
        world
    }

    /// Puts a plugin in, alone, and sets what it is to do.
    pub(crate) fn put(&mut self, hostile: &Hostile) {
        let folder = self.settings.standard_folder.join("hostile");
        fs::create_dir_all(&folder).expect("made");
        fs::write(folder.join("plugin.toml"), hostile.manifest()).expect("written");
        fs::write(folder.join("plugin.wasm"), hostile.bytes(&target())).expect("written");
        let table = self.inputs.settings.entry("hostile".parse().expect("an id")).or_default();
        table.clear();
        if hostile.component.is_some() {
            return;
        }
        let mut set = |key: &str, value: &str| table.insert(key.to_owned(), value.into());
        set("hook", hostile.at.as_str());
        set("misbehaviour", hostile.settings.0);
        if let Some(path) = &hostile.settings.1 {
            set("path", path);
        }
    }

    /// The same world with another compiler, and nothing compiled yet.
    pub(crate) async fn reopen_with_compiler(&mut self, compiler: PathBuf) {
        self.settings.compiler = compiler;
        self.settings.cache_folder = self.folder.path().join("cache");
        self.host = HookHost::open(self.settings.clone()).await.expect("the engine starts");
    }

    /// Maps a logical name to a path.
    pub(crate) fn map(&mut self, name: &str, path: &str) {
        let path = HostPath { path: path.to_owned(), guest: None, mode: None };
        self.inputs.host_files.insert(name.to_owned(), HostFilesSource::Paths(vec![path]));
    }

    /// Installs the plugin in a folder.
    pub(crate) async fn install(&self, folder: &Path) -> Result<(), InstallError> {
        let install = self.host.install(folder);
        let installed = tokio::time::timeout(PATIENCE, install).await;
        installed.expect("it ends within its budget").map(drop)
    }

    /// The user's home.
    pub(crate) fn home(&self) -> &Path {
        &self.inputs.home
    }

    /// Runs the hook, on the same host as all runs before.
    pub(crate) async fn run(&self) -> Result<HookRun, HookError> {
        let run = self.host.prepare_work_disk(&self.inputs);
        tokio::time::timeout(PATIENCE, run).await.expect("every run ends within its budget")
    }

    /// Runs the hooks of a point, on the same host.
    pub(crate) async fn run_at(
        &self,
        point: HookPoint,
        guest: &Arc<Guest>,
    ) -> Result<Vec<HookOutcome>, HookError> {
        let (host, inputs) = (&self.host, &self.inputs);
        let run = async {
            match point {
                HookPoint::Preflight => host.preflight(inputs).await,
                HookPoint::ConfigureMachine => {
                    host.configure_machine(inputs).await.map(|(_, outcomes)| outcomes)
                }
                HookPoint::PrepareWorkDisk => {
                    host.prepare_work_disk(inputs).await.map(|run| run.hooks)
                }
                HookPoint::PostStart => host.post_start(inputs, Arc::<Guest>::clone(guest)).await,
                HookPoint::PreStop => host.pre_stop(inputs).await,
                HookPoint::Cleanup => host.cleanup(inputs).await,
                HookPoint::Doctor => host.doctor(inputs).await,
            }
        };
        tokio::time::timeout(PATIENCE, run).await.expect("every run ends within its budget")
    }

    /// Sets for another plugin what is set for the hostile one.
    pub(crate) fn set_like_hostile(&mut self, other: &str) {
        let hostile = self.inputs.settings.values().next().cloned().unwrap_or_default();
        self.inputs.settings.insert(other.parse().expect("an id"), hostile);
    }

    /// Everything below the user's folders but the plugins themselves, as lines.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("readable") {
                let path = entry.expect("read").path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path.clone());
                }
                files.push(path.display().to_string());
            }
        }
        files.sort();
        files
    }
}

/// A machine.
fn machine() -> MachineView {
    let plan = MachinePlan {
        image: "default".parse().expect("a name"),
        vcpu: 2,
        memory_mib: 512,
        disk_bytes: 1 << 30,
        root_disk_bytes: 1 << 30,
        net: NetMode::None,
        egress: Policy::default(),
    };
    MachineView {
        id: "0123456789ab".parse().expect("an id"),
        name: "web".parse().expect("a name"),
        plan,
        labels: BTreeMap::new(),
        workspace: None,
    }
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    folder.expect("it is in the target folder").to_owned()
}
