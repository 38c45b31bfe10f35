//! What the tests of this module share: a user with a home and plugin folders, all in a temporary
//! folder, and real components, built by `scripts/build-plugins.sh`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::egress::{Mode, Policy};
use crate::vm::plan::{Content, PlannedStep};
use crate::wire::rpc::{MachinePlan, NetMode};

/// The plugins as components.
pub(super) fn built(name: &str) -> PathBuf {
    let folder = target().join("test-plugins");
    let plugin = folder.join(name);
    assert!(
        plugin.join("plugin.wasm").is_file(),
        "`{name}` is not built: run `scripts/build-plugins.sh --examples {}` first",
        folder.display()
    );
    plugin
}

/// Cargo's target folder: the test binary is in `debug/deps` of it.
fn target() -> PathBuf {
    let binary = std::env::current_exe().expect("the test binary has a path");
    binary.ancestors().nth(3).expect("it is in the target folder").to_owned()
}

/// A machine.
pub(super) fn machine() -> MachineView {
    MachineView {
        id: "0123456789ab".parse().expect("an id"),
        name: "web".parse().expect("a name"),
        plan: MachinePlan {
            image: "default".parse().expect("a name"),
            vcpu: 2,
            memory_mib: 512,
            disk_bytes: 1 << 30,
            root_disk_bytes: 1 << 30,
            net: NetMode::User,
            egress: Policy { mode: Mode::Allow, rules: Vec::new() },
        },
        labels: BTreeMap::new(),
        workspace: None,
    }
}

/// A user.
pub(super) struct User {
    pub(super) folder: tempfile::TempDir,
    pub(super) home: PathBuf,
    pub(super) settings: HookSettings,
    pub(super) inputs: HookInputs,
}

impl User {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let home = folder.path().join("home");
        fs::create_dir(&home).expect("made");
        let settings = HookSettings {
            standard_folder: folder.path().join("standard"),
            registry_folder: folder.path().join("plugins"),
            // Shared by all tests: a debug build of the compiler takes seconds.
            cache_folder: target().join("test-plugin-cache"),
            state_folder: folder.path().join("state"),
            log_folder: folder.path().join("log"),
            compiler: compiler::tests::program(folder.path()),
            grants: Vec::new(),
            ceiling: Ceiling::default(),
            signatures: SignatureRules::default(),
            disabled: BTreeSet::new(),
        };
        fs::create_dir(&settings.standard_folder).expect("made");
        let inputs = HookInputs {
            purpose: Purpose::Act,
            machine: Some(machine()),
            home: home.clone(),
            host_files: BTreeMap::new(),
            git: GitValues::default(),
            settings: BTreeMap::new(),
        };
        Self { folder, home, settings, inputs }
    }

    /// A user with the standard plugins.
    pub(super) fn with_standard_plugins() -> Self {
        let user = Self::new();
        for name in ["file-sync", "git-identity", "ssh-key"] {
            user.install(&user.settings.standard_folder, name, name, |manifest| manifest);
        }
        user
    }

    /// A user with one misbehaving plugin, which is granted what it asks for.
    pub(super) fn with_hostile_plugin(misbehaviour: &str) -> Self {
        let mut user = Self::new();
        user.install(&user.settings.standard_folder, "hostile", "hostile", |manifest| manifest);
        user.set("hostile", "misbehaviour", misbehaviour);
        user
    }

    /// Puts a built plugin into a folder under an id, its manifest edited.
    pub(super) fn install(
        &self,
        folder: &Path,
        name: &str,
        id: &str,
        edit: impl Fn(String) -> String,
    ) -> PathBuf {
        let to = folder.join(id);
        fs::create_dir_all(&to).expect("made");
        let from = built(name);
        let manifest = fs::read_to_string(from.join("plugin.toml")).expect("read");
        let manifest = manifest.replace(&format!("id = \"{name}\""), &format!("id = \"{id}\""));
        fs::write(to.join("plugin.toml"), edit(manifest)).expect("written");
        fs::copy(from.join("plugin.wasm"), to.join("plugin.wasm")).expect("copied");
        to
    }

    /// Makes a folder with a built plugin that somebody may install, its manifest edited.
    pub(super) fn package(&self, name: &str, id: &str, edit: impl Fn(String) -> String) -> PathBuf {
        self.install(&self.folder.path().join("packages"), name, id, edit)
    }

    /// The machine is another one.
    pub(super) fn rename(&mut self, id: &str) {
        let other = MachineView { id: id.parse().expect("an id"), ..machine() };
        self.inputs.machine = Some(other);
    }

    /// Sets a text of a plugin's settings.
    pub(super) fn set(&mut self, plugin: &str, key: &str, value: &str) {
        let table = self.inputs.settings.entry(plugin.parse().expect("an id")).or_default();
        table.insert(key.to_owned(), toml::Value::String(value.to_owned()));
    }

    /// Maps a logical name to paths.
    pub(super) fn map(&mut self, name: &str, paths: &[&str]) {
        let paths =
            paths.iter().map(|path| HostPath { path: (*path).to_owned(), guest: None, mode: None });
        let source = HostFilesSource::Paths(paths.collect());
        self.inputs.host_files.insert(name.to_owned(), source);
    }

    pub(super) async fn host(&self) -> HookHost {
        HookHost::open(self.settings.clone()).await.expect("the engine starts")
    }

    pub(super) async fn run(&self) -> Result<HookRun, HookError> {
        self.host().await.prepare_work_disk(&self.inputs).await
    }

    /// The text of the failure of a run.
    pub(super) async fn failure(&self) -> String {
        self.run().await.expect_err("it must fail").to_string()
    }
}

/// A plan as lines: what, where, mode, and the content where it is short.
pub(super) fn lines(steps: &[PlannedStep]) -> Vec<String> {
    let line = |step: &PlannedStep| {
        let mut content = vec![0; 4096];
        let read = step.content.read_at(0, &mut content).expect("the content is there");
        content.truncate(read);
        let text = match step.content {
            Content::None => String::new(),
            _ => format!(" {:?}", String::from_utf8_lossy(&content)),
        };
        let kind = serde_json::to_value(&step.step).expect("plain data");
        let mode = kind["mode"].as_u64().map(|mode| format!(" {mode:o}")).unwrap_or_default();
        format!("{} {}{mode}{text}", kind["step"].as_str().unwrap_or("?"), step.step.path())
    };
    steps.iter().map(line).collect()
}
