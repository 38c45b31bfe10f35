//! Every plugin that means harm, and how each must end. The plugins come from here to whoever tries them:
//! the tests of this folder with a hook host, those in `tests/e2e` with a daemon.
//!
//! Those that a compiler makes are one program, in `rust/`, that does what its setting says; the others
//! are written by hand, around `wat/plugin.wat`, or made by the code here. No binary is kept.

pub(crate) mod assembled;
mod bombs;
mod compiled;
mod foreign;
mod handles;
mod values;

use std::path::{Path, PathBuf};

use cove::wire::rpc::HookPoint;

/// How a plugin that means harm ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ends {
    /// It cannot be used at all, and its problem has this in it.
    Refused(&'static str),
    /// Its hook fails, and the failure has this in it.
    Failed(&'static str),
    /// It comes to nothing: it returns, and plans nothing.
    Harmless,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Hostile {
    /// What it does.
    pub(crate) name: &'static str,
    /// Its component; none for the program in `rust/`.
    pub(crate) component: Option<Vec<u8>>,
    /// The settings of that program: `misbehaviour` and `path`, and in which hook.
    pub(crate) settings: (&'static str, Option<String>),
    pub(crate) at: HookPoint,
    /// Lines for the `[limits]` of its manifest.
    pub(crate) limits: &'static str,
    /// Lines for the table of that hook in its manifest.
    pub(crate) hook: &'static str,
    /// How it ends.
    pub(crate) ends: Ends,
}

impl Hostile {
    fn new(name: &'static str, component: Vec<u8>, ends: Ends) -> Self {
        let (settings, at) = (("", None), HookPoint::PrepareWorkDisk);
        Self { name, component: Some(component), settings, at, limits: "", hook: "", ends }
    }

    /// The program in `rust/`, that misbehaves so at a hook point, with a path to try.
    pub(crate) fn compiled(
        at: HookPoint,
        name: &'static str,
        path: Option<String>,
        said: &'static str,
    ) -> Self {
        let (settings, ends) = ((name, path), Ends::Failed(said));
        Self { name, component: None, settings, at, limits: "", hook: "", ends }
    }

    /// The same with lines for the `[limits]` of its manifest.
    pub(crate) fn with(self, limits: &'static str) -> Self {
        Self { limits, ..self }
    }

    /// Its component's bytes.
    pub(crate) fn bytes(&self, target: &Path) -> Vec<u8> {
        let read = || std::fs::read(built(target).join("plugin.wasm")).expect("readable");
        self.component.clone().unwrap_or_else(read)
    }

    /// Its manifest, with lines of its own.
    pub(crate) fn manifest(&self) -> String {
        let manifest = match self.component {
            Some(_) => include_str!("../wat/plugin.toml"),
            None => include_str!("../rust/plugin.toml"),
        };
        let table = format!("[hooks.{}]", self.at);
        let manifest = manifest.replace(&table, &format!("{table}\n{}", self.hook));
        format!("{manifest}\n[limits]\n{}\n", self.limits)
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Hostile> {
    [handles::all(), values::all(), bombs::all(), foreign::all(), compiled::all()]
        .into_iter()
        .flatten()
        .collect()
}

/// A plugin that does what it should: it writes `allowed/file`.
pub(crate) fn honest() -> Hostile {
    let run = "(call $stage (local.get $disk))";
    harmless("honest", assembled::plugin(&[("run", run)]))
}

/// A plugin by hand of which nobody knows any harm.
pub(crate) fn harmless(name: &'static str, component: Vec<u8>) -> Hostile {
    Hostile::new(name, component, Ends::Harmless)
}

/// The folder of the program in `rust/`, built.
pub(crate) fn built(target: &Path) -> PathBuf {
    let folder = target.join("test-plugins");
    let plugin = folder.join("hostile");
    assert!(
        plugin.join("plugin.wasm").is_file(),
        "`hostile` is not built: run `scripts/build-plugins.sh --examples {}` first",
        folder.display()
    );
    plugin
}
