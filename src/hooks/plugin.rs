//! A plugin that is ready to run, and how it gets there.
//!
//! ```text
//! found ──▶ files read ──▶ granted? ──no──▶ listed with the reason, never compiled
//!                             │yes
//!                             ▼
//!        sealed code in the cache ──no──▶ compiled in a process of its own ──▶ cache
//!                             │yes                                              │
//!                             ▼                                                 ▼
//!                       loaded, imports and exports checked ──▶ ready
//! ```

use std::path::{Path, PathBuf};

use wasmtime::component::Component;

use super::bindings::WorkDiskPluginPre;
use super::cache::Cache;
use super::compiler;
use super::engine::Machine;
use super::error::{PREPARE_WORK_DISK, Problem};
use super::files::{self, Found};
use super::manifest::Manifest;
use super::state::State;
use crate::id::Digest;

/// A plugin as far as it got.
pub(super) struct Plugin {
    pub(super) found: Found,
    pub(super) manifest: Option<Manifest>,
    pub(super) digest: Option<Digest>,
    pub(super) state: Readiness,
}

/// How far a plugin got.
pub(super) enum Readiness {
    /// It can run.
    Ready(Box<WorkDiskPluginPre<State>>),
    /// It has no grant, or one for another component.
    Ungranted,
    /// It is broken.
    Broken(Problem),
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
        digest: &Digest,
    ) -> Result<WorkDiskPluginPre<State>, Problem> {
        let files::Component { path, bytes } = file;
        let cache = Cache::open(self.cache_folder).map_err(|reason| self.bad_cache(reason))?;
        let compatibility = &self.machine.compatibility;
        if let Some(code) = cache.load(digest, compatibility)
            && let Ok(component) = deserialize(self.machine, &code)
        {
            return self.check(&component, path);
        }
        let code = compiler::run(self.compiler, bytes).await;
        let code = code.map_err(|reason| Problem::Compile { file: path.clone(), reason })?;
        let stored = cache.store(digest, compatibility, &code);
        stored.map_err(|error| self.bad_cache(error.to_string()))?;
        let component = deserialize(self.machine, &code).map_err(|error| Problem::Compile {
            file: path.clone(),
            reason: format!("the compiler is of another version: {}", error.root_cause()),
        })?;
        self.check(&component, path)
    }

    fn bad_cache(&self, reason: String) -> Problem {
        Problem::Cache { folder: self.cache_folder.to_owned(), reason }
    }

    /// Compares what the component imports and exports with what there is.
    fn check(
        &self,
        component: &Component,
        file: PathBuf,
    ) -> Result<WorkDiskPluginPre<State>, Problem> {
        let kind = component.component_type();
        let engine = &self.machine.engine;
        let unknown: Vec<String> = kind
            .imports(engine)
            .map(|(name, _)| name)
            .filter(|name| !is_offered(name))
            .map(|name| super::log::shortened(name, 200))
            .collect();
        if !unknown.is_empty() {
            return Err(Problem::Imports { file, imports: unknown });
        }
        let wanted = format!("cove:hooks/{PREPARE_WORK_DISK}@0.1.0");
        if !kind.exports(engine).any(|(name, _)| name == wanted) {
            return Err(Problem::Contract {
                file,
                reason: format!("it does not export `{wanted}`"),
            });
        }
        let pre = self.machine.linker.instantiate_pre(component);
        let pre = pre.and_then(WorkDiskPluginPre::new);
        pre.map_err(|error| {
            let chain: Vec<_> = error.chain().map(ToString::to_string).collect();
            let reason = super::log::shortened(&chain.join(": "), 500);
            Problem::Contract { file, reason }
        })
    }
}

/// Loads compiled code.
#[expect(unsafe_code, reason = "compiled code is loaded here and nowhere else")]
fn deserialize(machine: &Machine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes come from our own compiler, either just now over its stdout or from the cache,
    // where a seal with a secret that only this user can read proves that this daemon stored them.
    unsafe { Component::deserialize(&machine.engine, code) }
}

/// Is there anything of this name? What is offered is checked by type afterwards.
fn is_offered(import: &str) -> bool {
    const COVE: [&str; 6] = ["types", "log", "host-files", "work-disk", "git-config", "settings"];
    const WASI: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];
    if let Some(rest) = import.strip_prefix("cove:hooks/") {
        return rest.strip_suffix("@0.1.0").is_some_and(|name| COVE.contains(&name));
    }
    let Some((package, interface)) =
        import.strip_prefix("wasi:").and_then(|rest| rest.split_once('/'))
    else {
        return false;
    };
    WASI.contains(&package)
        && interface.split_once('@').is_some_and(|(_, version)| version.starts_with("0.2."))
}
