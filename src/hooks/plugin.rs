//! A plugin that is ready to run, and how it gets there.
//!
//! ```text
//! found ──▶ files read ──▶ granted? ──no──▶ listed with the reason
//!                             │yes
//!                             ▼
//!        sealed code in the cache ──no──▶ compiled in a process of its own ──▶ cache
//!                             │yes                                              │
//!                             ▼                                                 ▼
//!                       loaded, imports and exports checked ──▶ ready
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::component::{Component, InstancePre};

use super::cache::Cache;
use super::compiler;
use super::contract::{Contract, Exports};
use super::engine::{Clock, Engine, Machine};
use super::files::{self, Found};
use super::manifest::Manifest;
use super::needs::Granted;
use super::package::release_key;
use super::problem::Problem;
use super::registry::Off;
use super::standing::Standing;
use super::state::State;
use crate::id::Digest;
use crate::task::blocking;
use crate::wire::rpc::HookPoint;

/// A plugin as far as it got.
pub(super) struct Plugin {
    pub(super) found: Found,
    pub(super) standing: Standing,
    pub(super) manifest: Option<Manifest>,
    pub(super) digest: Option<Digest>,
    /// The digest of its manifest's file, where it was installed.
    pub(super) manifest_digest: Option<Digest>,
    pub(super) state: Readiness,
}

/// How far a plugin got.
pub(super) enum Readiness {
    /// It can run.
    Ready(Arc<Loaded>),
    /// The configuration switches it off.
    Disabled,
    /// It was switched off, because it failed too often.
    Off(Off),
    /// It is granted nothing.
    Waiting,
    /// It was granted something, in other files.
    Void,
    /// It is broken.
    Broken(Problem),
}

/// A component whose imports are there and whose exports are the hooks of its manifest.
pub(super) struct Loaded {
    /// The names of what it imports.
    pub(super) imports: Vec<String>,
    /// The names of the hook interfaces that it exports.
    pub(super) hooks: Vec<String>,
    pub(super) pre: InstancePre<State>,
    pub(super) exports: Box<dyn Exports>,
    pub(super) clock: Arc<Clock>,
}

impl Plugin {
    /// Whether it takes part in the lives of VMs, even if only by being in the way of a start.
    pub(super) fn takes_part(&self) -> bool {
        match &self.state {
            Readiness::Ready(_) | Readiness::Void => true,
            Readiness::Broken(_) => self.standing.is_granted(),
            Readiness::Disabled | Readiness::Off(_) | Readiness::Waiting => false,
        }
    }

    /// What stands for the files there are, where it was installed.
    pub(super) fn release_key(&self) -> Option<Digest> {
        Some(release_key(self.manifest_digest.as_ref()?, self.digest.as_ref()?))
    }

    /// What it has of what it asks for.
    pub(super) fn granted(&self) -> Granted<'_> {
        match &self.state {
            Readiness::Waiting | Readiness::Void => Granted::Nothing,
            Readiness::Ready(_)
            | Readiness::Broken(_)
            | Readiness::Disabled
            | Readiness::Off(_) => self.standing.granted(),
        }
    }

    /// Whether a hook point has to do with it. What a plugin without a readable manifest is for cannot be
    /// told: it is then in the way of every start.
    pub(super) fn concerns(&self, point: HookPoint) -> bool {
        match &self.manifest {
            Some(manifest) => manifest.hooks.contains_key(&point),
            None => matches!(point, HookPoint::Preflight | HookPoint::PrepareWorkDisk),
        }
    }

    /// Its version; a question mark when its manifest cannot be read.
    pub(super) fn version(&self) -> String {
        self.manifest.as_ref().map_or("?".into(), |manifest| manifest.version.clone())
    }

    /// The digest of its component; of nothing when that cannot be read.
    pub(super) fn component(&self) -> Digest {
        self.digest.clone().unwrap_or_else(|| Digest::of(&[]))
    }
}

/// Makes plugins ready.
pub(super) struct Loader<'a> {
    pub(super) machine: &'a Machine,
    pub(super) cache_folder: &'a Path,
    pub(super) compiler: &'a Path,
}

impl Loader<'_> {
    /// Compiles, loads and checks a component.
    pub(super) async fn load(
        &self,
        file: files::Component,
        manifest: &Manifest,
        digest: &Digest,
    ) -> Result<Loaded, Problem> {
        let files::Component { path, bytes } = file;
        let contract = self.contract(manifest, &path)?;
        let class = manifest.limits.class;
        let engine = self
            .machine
            .engine(class)
            .map_err(|error| Problem::Compile { file: path.clone(), reason: error.to_string() })?;
        let check =
            |component: &Component| check(component, engine, (contract, self.machine), manifest);
        let (folder, wanted) = (self.cache_folder.to_owned(), digest.clone());
        let compatibility = engine.compatibility.clone();
        let look = move || -> Result<_, String> {
            let cache = Cache::open(&folder)?;
            let code = cache.load(&wanted, &compatibility);
            Ok((cache, code))
        };
        let looked = blocking(look).await;
        let (cache, code) = looked.map_err(|reason| self.bad_cache(reason))?;
        if let Some(code) = code
            && let Ok(component) = deserialize(engine, &code)
        {
            return check(&component).map_err(|wrong| wrong.of(path));
        }
        let code = compiler::run(self.compiler, class, bytes).await;
        let code = code.map_err(|reason| Problem::Compile { file: path.clone(), reason })?;
        let (digest, compatibility) = (digest.clone(), engine.compatibility.clone());
        let store = move || {
            let stored = cache.store(&digest, &compatibility, &code);
            (stored, code)
        };
        let (stored, code) = blocking(store).await;
        stored.map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull => {
                Problem::NoRoom { folder: self.cache_folder.to_owned() }
            }
            _ => self.bad_cache(error.to_string()),
        })?;
        let component = deserialize(engine, &code).map_err(|error| Problem::Compile {
            file: path.clone(),
            reason: format!("what it compiles to cannot be loaded: {}", error.root_cause()),
        })?;
        check(&component).map_err(|wrong| wrong.of(path))
    }

    /// The contract that the manifest names.
    fn contract(&self, manifest: &Manifest, file: &Path) -> Result<&'static dyn Contract, Problem> {
        let wanted = format!("{}.", manifest.api);
        let contracts = self.machine.contracts;
        let found = contracts.iter().find(|contract| contract.version().starts_with(&wanted));
        found.copied().ok_or_else(|| {
            let known: Vec<_> = contracts.iter().map(|contract| contract.version()).collect();
            let known = known.join(" and ");
            let reason = format!(
                "its manifest says that it is made for `cove:hooks@{}`, and this cove has {known}",
                manifest.api
            );
            Problem::Contract { file: file.to_owned(), reason }
        })
    }

    fn bad_cache(&self, reason: String) -> Problem {
        Problem::Cache { folder: self.cache_folder.to_owned(), reason }
    }
}

/// What is wrong with a component.
enum Wrong {
    Imports(Vec<String>),
    Contract(String),
}

impl Wrong {
    fn of(self, file: PathBuf) -> Problem {
        match self {
            Self::Imports(imports) => Problem::Imports { file, imports },
            Self::Contract(reason) => Problem::Contract { file, reason },
        }
    }
}

/// Compares what the component imports and exports with what there is, and with what its manifest says.
fn check(
    component: &Component,
    engine: &Engine,
    (contract, machine): (&'static dyn Contract, &Machine),
    manifest: &Manifest,
) -> Result<Loaded, Wrong> {
    let kind = component.component_type();
    let unknown: Vec<String> = kind
        .imports(&engine.engine)
        .map(|(name, _)| name)
        .filter(|name| !is_offered(name, machine.contracts))
        .map(|name| super::log::shortened(name, 200))
        .collect();
    if !unknown.is_empty() {
        return Err(Wrong::Imports(unknown));
    }
    let imports = kind.imports(&engine.engine);
    let imports = imports.map(|(name, _)| super::log::shortened(name, 200)).collect();
    let exported: Vec<&str> = kind.exports(&engine.engine).map(|(name, _)| name).collect();
    let (mut points, mut hooks) = (Vec::new(), Vec::new());
    for point in HookPoint::ALL {
        let name = format!("cove:hooks/{point}@{}", contract.version());
        match (exported.contains(&name.as_str()), manifest.hooks.contains_key(&point)) {
            (true, true) => {
                points.push(point);
                hooks.push(name);
            }
            (false, true) => return Err(Wrong::Contract(format!("it does not export `{name}`"))),
            (true, false) => {
                let reason =
                    format!("it exports `{name}`, and its manifest has no `[hooks.{point}]`");
                return Err(Wrong::Contract(reason));
            }
            (false, false) => {}
        }
    }
    let wrong = |error: wasmtime::Error| {
        let chain: Vec<_> = error.chain().map(ToString::to_string).collect();
        Wrong::Contract(super::log::shortened(&chain.join(": "), 500))
    };
    let pre = engine.linker.instantiate_pre(component).map_err(wrong)?;
    let exports = contract.exports(&pre, &points).map_err(wrong)?;
    Ok(Loaded { imports, hooks, pre, exports, clock: Arc::clone(&engine.clock) })
}

/// Loads compiled code.
#[expect(unsafe_code, reason = "compiled code is loaded here and nowhere else")]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes come from our own compiler, either just now over its stdout or from the cache,
    // where a seal with a secret that only this user can read proves that this daemon stored them.
    unsafe { Component::deserialize(&engine.engine, code) }
}

/// Is there anything of this name? What is offered is checked by type afterwards.
fn is_offered(import: &str, contracts: &[&dyn Contract]) -> bool {
    const WASI: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];
    let Some((package, rest)) = import.split_once('/') else {
        return false;
    };
    let Some((interface, version)) = rest.split_once('@') else {
        return false;
    };
    if package == "cove:hooks" {
        return contracts.iter().any(|contract| {
            contract.version() == version && contract.offers().contains(&interface)
        });
    }
    package.strip_prefix("wasi:").is_some_and(|package| WASI.contains(&package))
        && version.starts_with("0.2.")
}
