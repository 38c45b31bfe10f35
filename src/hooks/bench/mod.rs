//! What `cove bench hooks` measures: the host's own overhead, beside a bare loop of wasmtime that does the
//! same with the same component on the same engine.
//!
//! The component is the standard plugin `git-identity`. It runs in this process, in a folder that is made
//! for it; no daemon and nothing of the user's has to do with it.

mod bare;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use self::bare::Bare;
use super::ceiling::Ceiling;
use super::contract::KNOWN;
use super::engine::Machine;
use super::error::HookError;
use super::files::{Found, Home};
use super::guest::{GuestOutput, GuestProgram, GuestPrograms};
use super::handles::{Remembered, Settings};
use super::host::HookHost;
use super::inputs::{GitValues, HookInputs, HookSettings, MachineView, Purpose, SignatureRules};
use super::manifest::Manifest;
use super::needs::{Granted, Rights};
use super::plugin::{Loaded, Loader};
use super::problem::Problem;
use super::run::{Cancel, Run, View};
use super::source::{HostFilesSource, HostPath};
use super::state::{Chance, store};
use crate::egress::Policy;
use crate::id::{Digest, PluginId};
use crate::wire::rpc::{HookPoint, MachinePlan, NetMode};

/// Hooks of a start.
pub const HOOKS: u32 = 7;
/// How many more calls of the host one measured run makes than the other.
pub const HOST_CALLS: u32 = 1000;
/// Bytes of the file that is imported.
pub const IMPORTED: usize = 64 << 10;
/// Git keys that the plugin sees in a usual call.
const KEYS: u32 = 2;
/// The value of each.
const VALUE: &str = "a value";
/// The plugin.
const PLUGIN: &str = "git-identity";

/// A key of the made-up git configuration: the first two are those that the plugin always asks for.
fn key(number: u32) -> String {
    match number {
        0 => "user.email".to_owned(),
        1 => "user.name".to_owned(),
        number => format!("cove.key{number}"),
    }
}

/// One measurement: cove's time, and the floor's.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Cove's.
    pub cove: Duration,
    /// The floor's.
    pub floor: Duration,
}

/// Everything that is measured.
pub struct HookBench {
    folder: PathBuf,
    machine: Machine,
    manifest: Manifest,
    digest: Digest,
    component: Vec<u8>,
    loaded: Arc<Loaded>,
    bare: Bare,
    /// Compiled code as the bare loop loads it.
    code: PathBuf,
    /// A host with as many plugins as a start has hooks.
    seven: HookHost,
    /// A host with `file-sync`.
    syncing: HookHost,
}

impl HookBench {
    /// Makes everything in an empty folder. `standard` has the standard plugins, `compiler` is `coved`.
    ///
    /// # Errors
    /// When the plugins cannot be used or a file cannot be written.
    pub async fn open(folder: &Path, standard: &Path, compiler: &Path) -> Result<Self, HookError> {
        let path = standard.join(PLUGIN);
        let files = Found::at(Home::Standard, path.clone(), PLUGIN.to_owned()).read();
        let unusable = |problem| HookError::Broken { plugin: PLUGIN.to_owned(), problem };
        let file = files.component.map_err(unusable)?;
        let (Some(manifest), Some(digest)) = (files.manifest, files.digest) else {
            unreachable!("a component is read after its manifest");
        };
        let component = file.bytes.clone();
        let machine = Machine::new(KNOWN)?;
        let cache = folder.join("compiled");
        let loader = Loader { machine: &machine, cache_folder: &cache, compiler };
        let loaded = loader.load(file, &manifest, &digest).await.map_err(unusable)?;
        let code = folder.join("code");
        let bare = loaded.pre.component().serialize().and_then(|serialized| {
            fs::write(&code, serialized)?;
            Bare::new(loaded.pre.component())
        });
        let bare = bare.map_err(engine_failed)?;
        let seven = folder.join("seven");
        copies(&path, &seven)
            .map_err(|source| HookError::Folder { folder: seven.clone(), source })?;
        let settings = |plugins: PathBuf, name: &str| HookSettings {
            standard_folder: plugins,
            registry_folder: folder.join("none"),
            cache_folder: cache.clone(),
            state_folder: folder.join("state"),
            log_folder: folder.join(name),
            compiler: compiler.to_owned(),
            grants: Vec::new(),
            ceiling: Ceiling::default(),
            signatures: SignatureRules::default(),
            disabled: BTreeSet::new(),
        };
        let syncing = settings(standard.to_owned(), "syncing-log");
        Ok(Self {
            seven: HookHost::open(settings(seven, "log")).await?,
            syncing: HookHost::open(syncing).await?,
            folder: folder.to_owned(),
            loaded: Arc::new(loaded),
            machine,
            manifest,
            digest,
            component,
            bare,
            code,
        })
    }

    /// A store with its limits, and an instance in it.
    ///
    /// # Errors
    /// When the component cannot be instantiated.
    pub async fn instantiate(&self) -> Result<Measured, HookError> {
        let chance = Chance::of("0123456789ab", &self.digest);
        let cancelled = Arc::<AtomicBool>::default();
        let began = Instant::now();
        {
            let _ticking = self.loaded.clock.run();
            let engine = self.loaded.pre.engine();
            let mut store = store(engine, &self.manifest.limits, &chance, cancelled);
            self.loaded.pre.instantiate_async(&mut store).await.map_err(engine_failed)?;
        }
        let cove = began.elapsed();
        let began = Instant::now();
        self.bare.instantiate().await.map_err(engine_failed)?;
        Ok(Measured { cove, floor: began.elapsed() })
    }

    /// A whole call, from the handles to the plan.
    ///
    /// # Errors
    /// When the plugin fails.
    pub async fn call(&self) -> Result<Measured, HookError> {
        self.call_with(KEYS).await
    }

    /// One call of the host with its part of the plugin's loop, in a run that makes [`HOST_CALLS`] more of
    /// them than another.
    ///
    /// # Errors
    /// When the plugin fails.
    pub async fn host_call(&self) -> Result<Measured, HookError> {
        let (few, many) = (self.call_with(KEYS).await?, self.call_with(KEYS + HOST_CALLS).await?);
        Ok(Measured {
            cove: many.cove.saturating_sub(few.cove) / HOST_CALLS,
            floor: many.floor.saturating_sub(few.floor) / HOST_CALLS,
        })
    }

    async fn call_with(&self, keys: u32) -> Result<Measured, HookError> {
        let run = self.run(keys);
        let began = Instant::now();
        let ended = run.call(Cancel::default()).await;
        let cove = began.elapsed();
        ended.result.map_err(|failure| HookError::Failed {
            plugin: self.manifest.id.clone(),
            point: HookPoint::PrepareWorkDisk,
            failure,
            log: Vec::new(),
            advice: None,
        })?;
        let began = Instant::now();
        self.bare.call(keys).await.map_err(engine_failed)?;
        Ok(Measured { cove, floor: began.elapsed() })
    }

    /// Loading a component whose code is in the cache, until it can run.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub async fn load(&self) -> Result<Measured, HookError> {
        let file = super::files::Component {
            path: self.folder.join("plugin.wasm"),
            bytes: self.component.clone(),
        };
        let cache = self.folder.join("compiled");
        // It is in the cache, so nothing is compiled.
        let nobody = Path::new("/nonexistent");
        let loader = Loader { machine: &self.machine, cache_folder: &cache, compiler: nobody };
        let began = Instant::now();
        let loaded = loader.load(file, &self.manifest, &self.digest).await;
        let cove = began.elapsed();
        loaded
            .map_err(|problem: Problem| HookError::Broken { plugin: PLUGIN.to_owned(), problem })?;
        let began = Instant::now();
        bare::load(self.loaded.pre.engine(), &self.code).map_err(engine_failed)?;
        Ok(Measured { cove, floor: began.elapsed() })
    }

    /// All hook points of one start with [`HOOKS`] hooks, records included, beside as many bare calls.
    ///
    /// # Errors
    /// When a hook fails.
    pub async fn start(&self) -> Result<Measured, HookError> {
        let inputs = self.inputs(BTreeMap::new());
        let began = Instant::now();
        self.seven.preflight(&inputs).await?;
        self.seven.configure_machine(&inputs).await?;
        let run = self.seven.prepare_work_disk(&inputs).await?;
        self.seven.post_start(&inputs, Arc::new(NoGuest)).await?;
        let cove = began.elapsed();
        assert_eq!(run.hooks.len(), HOOKS as usize, "every hook ran");
        let began = Instant::now();
        for _ in 0..HOOKS {
            self.bare.call(KEYS).await.map_err(engine_failed)?;
        }
        Ok(Measured { cove, floor: began.elapsed() })
    }

    /// The most memory that `file-sync` had, with a file to import and without: in bytes.
    ///
    /// # Errors
    /// When the plugin fails.
    pub async fn import_memory(&self) -> Result<(usize, usize), HookError> {
        let file = self.folder.join("imported");
        let written = fs::write(&file, vec![b'x'; IMPORTED]);
        written.map_err(|source| HookError::Folder { folder: self.folder.clone(), source })?;
        let path = HostPath {
            path: file.display().to_string(),
            guest: Some("imported".to_owned()),
            mode: None,
        };
        let mut most = Vec::new();
        for paths in [vec![path], Vec::new()] {
            let files = [("file-sync".to_owned(), HostFilesSource::Paths(paths))];
            let run = self.syncing.prepare_work_disk(&self.inputs(files.into())).await?;
            let hook = run.hooks.iter().find(|hook| hook.plugin.as_str() == "file-sync");
            most.push(hook.map_or(0, |hook| hook.used.memory));
        }
        Ok((most[0], most[1]))
    }

    fn inputs(&self, host_files: BTreeMap<String, HostFilesSource>) -> HookInputs {
        HookInputs {
            purpose: Purpose::Act,
            machine: Some(made_up_machine()),
            home: self.folder.clone(),
            host_files,
            git: GitValues((0..KEYS).map(|number| (key(number), VALUE.to_owned())).collect()),
            settings: BTreeMap::new(),
        }
    }

    fn run(&self, keys: u32) -> Run {
        let rights = Rights::new(
            &self.manifest.needs,
            Granted::All,
            &Ceiling::default(),
            &toml::Table::new(),
        );
        let settings = Settings::new(self.manifest.settings.clone(), toml::Table::new());
        Run {
            loaded: Arc::clone(&self.loaded),
            point: HookPoint::PrepareWorkDisk,
            limits: self.manifest.limits,
            wall: Duration::from_secs(10),
            rights: Arc::new(rights),
            view: View {
                machine: Some(made_up_machine()),
                home: self.folder.clone(),
                sources: BTreeMap::new(),
                git: (0..keys).map(|number| (key(number), Some(VALUE.to_owned()))).collect(),
                settings: settings.expect("no settings are wrong"),
                remembered: Remembered::new(),
            },
            guest: None,
            chance: Chance::of("0123456789ab", &self.digest),
        }
    }
}

/// A guest that no program is run in.
struct NoGuest;

impl GuestPrograms for NoGuest {
    fn run(
        &self,
        _: GuestProgram,
    ) -> futures_util::future::BoxFuture<'_, Result<GuestOutput, String>> {
        Box::pin(std::future::ready(Err("there is no guest".to_owned())))
    }
}

fn made_up_machine() -> MachineView {
    MachineView {
        id: "0123456789ab".parse().expect("an id"),
        name: "bench".parse().expect("a name"),
        plan: MachinePlan {
            image: "default".parse().expect("a name"),
            vcpu: 2,
            memory_mib: 512,
            disk_bytes: 16 << 30,
            root_disk_bytes: 8 << 30,
            net: NetMode::None,
            egress: Policy::default(),
        },
        labels: BTreeMap::new(),
        workspace: None,
    }
}

/// Copies of a plugin, each after all before it, so that they may write one file.
fn copies(plugin: &Path, to: &Path) -> std::io::Result<()> {
    let manifest = fs::read_to_string(plugin.join("plugin.toml"))?;
    let wrong = |error: toml::de::Error| std::io::Error::other(error.to_string());
    let manifest: toml::Table = toml::from_str(&manifest).map_err(wrong)?;
    let mut before: Vec<toml::Value> = Vec::new();
    for number in 1..=HOOKS {
        let id: PluginId = format!("bench-{number}").parse().expect("an id");
        let folder = to.join(id.as_str());
        fs::create_dir_all(&folder)?;
        let mut manifest = manifest.clone();
        let mut hooks = toml::Table::new();
        let rules = toml::Table::from_iter([("after".to_owned(), before.clone().into())]);
        hooks.insert("prepare-work-disk".to_owned(), rules.into());
        manifest.insert("hooks".to_owned(), hooks.into());
        if let Some(toml::Value::Table(about)) = manifest.get_mut("plugin") {
            about.insert("id".to_owned(), id.as_str().into());
        }
        fs::write(folder.join("plugin.toml"), manifest.to_string())?;
        fs::copy(plugin.join("plugin.wasm"), folder.join("plugin.wasm"))?;
        before.push(id.as_str().into());
    }
    Ok(())
}

fn engine_failed(error: wasmtime::Error) -> HookError {
    HookError::Engine(error.into_boxed_dyn_error())
}
