//! What the functions of a plugin are called with: one struct for each hook point, its handles as fields.
//! They are good for one call.

use crate::{GitConfig, Guest, HostFiles, Machine, MachineRequest, Settings, State, WorkDisk};

/// May this machine start? The function returns what the user should know although it may, at most 16
/// lines. An error keeps it from starting.
#[derive(Debug)]
pub struct Preflight<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The granted files of the host.
    pub files: &'a HostFiles,
    /// The granted keys of the user's git configuration.
    pub git: &'a GitConfig,
    /// What the operator configured for this plugin.
    pub settings: &'a Settings,
}

/// At every start, before the guest's kernel boots: variables, labels, forwards and names to be reachable.
#[derive(Debug)]
pub struct ConfigureMachine<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// What it is asked to be.
    pub request: &'a MachineRequest,
    /// The granted files of the host.
    pub files: &'a HostFiles,
    /// The granted keys of the user's git configuration.
    pub git: &'a GitConfig,
    /// What the operator configured for this plugin.
    pub settings: &'a Settings,
    /// What the plugin remembers.
    pub state: &'a State,
}

/// At every start: what is in the home. It must be right for a new home and for one that is in use.
#[derive(Debug)]
pub struct PrepareWorkDisk<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The home of the guest's user.
    pub disk: &'a WorkDisk,
    /// The granted files of the host.
    pub files: &'a HostFiles,
    /// The granted keys of the user's git configuration.
    pub git: &'a GitConfig,
    /// What the operator configured for this plugin.
    pub settings: &'a Settings,
    /// What the plugin remembers.
    pub state: &'a State,
}

/// The guest is up, its home is prepared, its repository is there.
#[derive(Debug)]
pub struct PostStart<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The guest, to run granted programs in.
    pub guest: &'a Guest,
    /// What the operator configured for this plugin.
    pub settings: &'a Settings,
    /// What the plugin remembers.
    pub state: &'a State,
}

/// The machine is going to be asked to power off.
#[derive(Debug)]
pub struct PreStop<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// What the operator configured for this plugin.
    pub settings: &'a Settings,
    /// What the plugin remembers.
    pub state: &'a State,
}

/// The machine is being deleted.
#[derive(Debug)]
pub struct Cleanup<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// What the operator configured for this plugin.
    pub settings: &'a Settings,
    /// What the plugin remembers.
    pub state: &'a State,
}

/// `cove doctor`: does the host have what the plugin needs? The function returns at most 16 findings.
#[derive(Debug)]
pub struct Doctor<'a> {
    /// The granted files of the host.
    pub files: &'a HostFiles,
    /// The granted keys of the user's git configuration.
    pub git: &'a GitConfig,
    /// What the operator configured for this plugin.
    pub settings: &'a Settings,
}
