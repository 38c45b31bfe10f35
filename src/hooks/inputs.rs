//! What the host is handed: folders and grants once, and at each start what hooks may get to see.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::ceiling::Ceiling;
use super::needs::{Grant, git_key};
use super::source::HostFilesSource;
use crate::id::{PluginId, VmId, VmName};
use crate::wire::rpc::{HookSigner, MachinePlan};

/// Where plugins are and what the operator allows.
#[derive(Debug, Clone)]
pub struct HookSettings {
    /// The folder of the standard plugins, `ID/plugin.toml` and the component in it.
    pub standard_folder: PathBuf,
    /// The folder of installed plugins, which the registry keeps. Made with mode 0700 when it is not there.
    pub registry_folder: PathBuf,
    /// Where compiled components are kept. Made with mode 0700 when it is not there.
    pub cache_folder: PathBuf,
    /// Where plugins' own small stores are kept. Made with mode 0700 when it is not there.
    pub state_folder: PathBuf,
    /// Where the log of hook runs is kept. Made with mode 0700 when it is not there.
    pub log_folder: PathBuf,
    /// The program that compiles when it is called with [`super::compiler::ARGUMENT`]: `coved`.
    pub compiler: PathBuf,
    /// What the configuration lets installed plugins do.
    pub grants: Vec<Grant>,
    /// What no plugin may have more than.
    pub ceiling: Ceiling,
    /// Whose signatures are known, and whether installed plugins need one.
    pub signatures: SignatureRules,
    /// Plugins that are switched off, standard ones included.
    pub disabled: BTreeSet<PluginId>,
}

/// Whose signatures are known, and whether installed plugins need one.
#[derive(Debug, Clone, Default)]
pub struct SignatureRules {
    /// Whether a plugin without a signature of one of these is refused.
    pub required: bool,
    /// Those whose signatures are known.
    pub signers: Vec<HookSigner>,
}

/// A machine as hooks see it.
#[derive(Debug, Clone)]
pub struct MachineView {
    /// Its id.
    pub id: VmId,
    /// Its name.
    pub name: VmName,
    /// What it is.
    pub plan: MachinePlan,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The repository in it, relative to the home.
    pub workspace: Option<String>,
}

/// Whether what hooks want is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It is.
    Act,
    /// Somebody looks at what they would do. Nothing is kept: neither what they remember, nor that they failed.
    Look,
}

/// What hooks get to see.
#[derive(Debug, Clone)]
pub struct HookInputs {
    /// What it is for.
    pub purpose: Purpose,
    /// The machine; none where a hook is not about one.
    pub machine: Option<MachineView>,
    /// The user's home on the host: what `~/` in mapped paths means.
    pub home: PathBuf,
    /// What stands behind the logical names of host files.
    pub host_files: BTreeMap<String, HostFilesSource>,
    /// The user's git configuration.
    pub git: GitValues,
    /// The settings of each plugin.
    pub settings: BTreeMap<PluginId, toml::Table>,
}

/// The user's git configuration. Plugins see the keys that are granted to them.
#[derive(Debug, Clone, Default)]
pub struct GitValues(pub(super) BTreeMap<String, String>);

impl GitValues {
    /// From the output of `git config --list --null`: entries `KEY\nVALUE\0`, or `KEY\0` for a key
    /// without a value, which means true. The last one of several values wins. What is not UTF-8 is left
    /// out.
    #[must_use]
    pub fn from_list(output: &[u8]) -> Self {
        let entries = output.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
        let entries = entries.filter_map(|entry| std::str::from_utf8(entry).ok());
        let entries = entries.map(|entry| entry.split_once('\n').unwrap_or((entry, "true")));
        Self(entries.map(|(key, value)| (git_key(key), value.to_owned())).collect())
    }
}
