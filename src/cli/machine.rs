//! The flags that describe a machine, shared by `run` and `create`.

use std::collections::BTreeMap;

use clap::ValueEnum;

use super::completion::vm_names;
use crate::egress::{Mode, Rule, UnreadableRule};
use crate::id::{ImageName, VmName};
use crate::size::Size;
use crate::wire::rpc::{CreateVm, NetMode, Publish};

/// The smallest piece of memory that can be asked for, in bytes.
const MEBIBYTE: u64 = 1 << 20;

/// How the new machine is made. What is not given comes from the configuration.
#[derive(Debug, clap::Args)]
pub(super) struct MachineArguments {
    /// Its name: 1 to 63 of a-z, 0-9 and -; made up when not given
    #[arg(long)]
    name: Option<VmName>,
    /// The image to boot
    #[arg(long)]
    image: Option<ImageName>,
    /// Virtual processors
    #[arg(long, value_name = "COUNT")]
    vcpu: Option<u32>,
    /// Memory, such as 512M or 2G
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<Size>,
    /// Size of the work disk, where the home folder lies
    #[arg(long, value_name = "SIZE")]
    disk: Option<Size>,
    /// Size of the overlay disk, where changes to the image go
    #[arg(long, value_name = "SIZE")]
    root_disk: Option<Size>,
    /// The network
    #[arg(long, value_enum)]
    net: Option<Net>,
    /// What it may reach at all; when not given, `--allow` means `allow`
    #[arg(long, value_enum)]
    egress: Option<Egress>,
    /// Let it reach this: NAME, *.NAME, ADDRESS or RANGE, and with :PORT or :FIRST-LAST only there
    #[arg(long, value_name = "RULE", value_parser = rule)]
    allow: Vec<Rule>,
    /// Open the way to and from another VM on the bridge, whatever `--egress` says
    #[arg(long, value_name = "VM", add = vm_names())]
    peer: Vec<String>,
    /// Add a variable to the environment of every command in the guest
    #[arg(long, value_name = "K=V", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Have a port of the guest at a port of this host whenever it runs, on loopback unless HOST is said
    #[arg(short, long, value_name = "[HOST:]PORT:GUESTPORT")]
    publish: Vec<Publish>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Net {
    /// Outbound, as far as `--egress` lets it
    User,
    /// The same, and with an address that this host reaches; needs root, or the network helper
    Bridge,
    /// No network device
    None,
}

impl Net {
    /// The same on the wire.
    pub(super) fn mode(self) -> NetMode {
        match self {
            Self::User => NetMode::User,
            Self::Bridge => NetMode::Bridge,
            Self::None => NetMode::None,
        }
    }
}

/// What a VM may reach at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Egress {
    /// The public internet; rules open what is not public
    Open,
    /// What rules name
    Allow,
    /// Nothing
    Closed,
}

impl Egress {
    /// The same on the wire.
    pub(super) fn mode(self) -> Mode {
        match self {
            Self::Open => Mode::Open,
            Self::Allow => Mode::Allow,
            Self::Closed => Mode::Closed,
        }
    }
}

impl MachineArguments {
    /// The request to make it, without a start, a lease or a repository.
    pub(super) fn request(self) -> CreateVm {
        CreateVm {
            name: self.name.map(String::from),
            image: self.image.map(String::from),
            vcpu: self.vcpu,
            memory_mib: self.memory.map(Size::mebibytes),
            disk_bytes: self.disk.map(Size::bytes),
            root_disk_bytes: self.root_disk.map(Size::bytes),
            net: self.net.map(Net::mode),
            egress: self.egress.map(Egress::mode),
            allow: self.allow,
            peers: self.peer,
            env: environment(self.env),
            publish: self.publish,
            ..CreateVm::default()
        }
    }
}

/// Variables as a map; the last of one name wins.
pub(super) fn environment(variables: Vec<(String, String)>) -> BTreeMap<String, String> {
    variables.into_iter().collect()
}

/// Reads `K=V`.
///
/// # Errors
/// When there is no `=` or no name before it.
pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write NAME=VALUE, such as EDITOR=vi".to_owned()),
    }
}

/// Reads a rule of what a VM may reach.
///
/// # Errors
/// When it is none, with how rules are written.
pub(super) fn rule(text: &str) -> Result<Rule, UnreadableRule> {
    Rule::try_from(text.to_owned())
}

/// Reads a size in whole MiB.
///
/// # Errors
/// When it is none.
pub(super) fn memory(text: &str) -> Result<Size, String> {
    let size: Size = text.parse().map_err(|error: crate::size::InvalidSize| error.to_string())?;
    if size.bytes().is_multiple_of(MEBIBYTE) {
        Ok(size)
    } else {
        Err("memory is given in whole MiB: write 512M or 2G".to_owned())
    }
}
