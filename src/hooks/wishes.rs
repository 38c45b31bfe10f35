//! What one plugin asks a machine to be: checked wish by wish, dropped as a whole when the hook fails.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::limits;
use super::needs::Rights;
use super::refusal::Refusal;
use crate::egress::{Mode, Ports, Rule, Target};
use crate::wire::rpc::{HookWish, MachinePlan, NetMode, Publish};

/// Variables that say how programs of the guest are found, loaded or started: whoever sets them is in all of
/// them, or runs another program than the one that is named.
const RESERVED: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "IFS",
    "GCONV_PATH",
];
/// Beginnings of such names.
const RESERVED_BEGINNINGS: [&str; 3] = ["LD_", "GLIBC_", "COVE_"];

/// The first port of the host that a plugin may have: those below are for the host's own services.
const FIRST_PORT: u16 = 1024;

/// Whether a plugin may set a variable of this name at all: for every command, or for a program that it runs.
pub(super) fn check_variable(name: &str) -> Result<(), Refusal> {
    let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let shown = shown(name);
    if name.is_empty() || !name.bytes().all(letters) || name.as_bytes()[0].is_ascii_digit() {
        return Err(Refusal::new("bad-argument", format!("`{shown}` is no variable's name")));
    }
    if RESERVED.contains(&name)
        || RESERVED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
    {
        let message = format!(
            "no plugin may set `{shown}`: it says how programs are found, loaded or started"
        );
        return Err(Refusal::new("bad-argument", message));
    }
    Ok(())
}

/// The growing wishes of one plugin. They hold the plugin's rights, so that no caller can forget them.
#[derive(Debug)]
pub(super) struct Wishes {
    rights: Arc<Rights>,
    /// Why no wish makes anything reachable, where none does.
    closed: Option<&'static str>,
    granted: Asked,
    bytes: usize,
}

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Variables of the environment of every command.
    pub env: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Names to be reachable, each as a rule for all ports or one.
    pub egress: BTreeSet<Rule>,
    /// Ports of the guest, by ports of the host's loopback.
    pub forwards: BTreeMap<u16, u16>,
}

impl Asked {
    /// Adds what another plugin asks for, which wins.
    pub(super) fn extend(&mut self, other: &Self) {
        self.env.extend(other.env.clone());
        self.labels.extend(other.labels.clone());
        self.egress.extend(other.egress.clone());
        self.forwards.extend(&other.forwards);
    }

    /// The forwards as a VM has them.
    #[must_use]
    pub fn published(&self) -> Vec<Publish> {
        let host = Ipv4Addr::LOCALHOST.into();
        let forwards = self.forwards.iter();
        forwards.map(|(&port, &guest_port)| Publish { host, port, guest_port }).collect()
    }

    /// For people: without the values of variables, which may be secrets.
    #[must_use]
    pub fn shown(&self) -> Vec<HookWish> {
        let env = self.env.keys().map(|name| HookWish {
            action: "set-env".to_owned(),
            name: name.clone(),
            value: None,
        });
        let labels = self.labels.iter().map(|(name, value)| HookWish {
            action: "set-label".to_owned(),
            name: name.clone(),
            value: Some(value.clone()),
        });
        let egress = self.egress.iter().map(|rule| HookWish {
            action: "allow-egress".to_owned(),
            name: rule.to_string(),
            value: None,
        });
        let forwards = self.forwards.iter().map(|(host, guest)| HookWish {
            action: "forward".to_owned(),
            name: format!("{host}:{guest}"),
            value: None,
        });
        env.chain(labels).chain(egress).chain(forwards).collect()
    }
}

impl Wishes {
    /// Of a plugin with these rights, for this machine.
    pub(super) fn new(rights: Arc<Rights>, machine: Option<&MachinePlan>) -> Self {
        let closed = machine.and_then(|machine| match machine.egress.mode {
            Mode::Open | Mode::Allow | Mode::Closed if machine.net == NetMode::None => {
                Some("the machine has no network")
            }
            Mode::Closed => Some("the machine's policy is `closed`"),
            Mode::Open | Mode::Allow => None,
        });
        Self { rights, closed, granted: Asked::default(), bytes: 0 }
    }

    /// What was asked for; nothing is afterwards.
    pub(super) fn take(&mut self) -> Asked {
        std::mem::take(&mut self.granted)
    }

    /// Wishes for a variable.
    pub(super) fn env(&mut self, name: String, value: String) -> Result<(), Refusal> {
        check_variable(&name)?;
        if !self.rights.may_set_env(&name) {
            return Err(Refusal::not_granted(&format!("machine.env:{name}")));
        }
        self.take_room(&name, &value)?;
        self.granted.env.insert(name, value);
        Ok(())
    }

    /// Wishes for a label.
    pub(super) fn label(&mut self, name: String, value: String) -> Result<(), Refusal> {
        if name.is_empty() || name.contains('=') || name.chars().any(char::is_control) {
            let shown = shown(&name);
            return Err(Refusal::new("bad-argument", format!("`{shown}` is no label's name")));
        }
        if !self.rights.may_set_label(&name) {
            return Err(Refusal::not_granted(&format!("machine.label:{name}")));
        }
        self.take_room(&name, &value)?;
        self.granted.labels.insert(name, value);
        Ok(())
    }

    /// Wishes for a port of the guest at a port of the host's loopback.
    pub(super) fn forward(&mut self, host_port: u16, guest_port: u16) -> Result<(), Refusal> {
        if !self.rights.may_forward(guest_port) {
            return Err(Refusal::not_granted(&format!("machine.forward:{guest_port}")));
        }
        if host_port < FIRST_PORT {
            let message = format!(
                "a plugin cannot have port {host_port} of the host: only those from {FIRST_PORT} on"
            );
            return Err(Refusal::new("bad-argument", message));
        }
        self.take_room("", "")?;
        match self.granted.forwards.insert(host_port, guest_port) {
            Some(before) if before != guest_port => {
                let message = format!("port {host_port} of the host is that of {before} already");
                self.granted.forwards.insert(host_port, before);
                Err(Refusal::new("bad-argument", message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Wishes for a name to be reachable: at one port, or at all when none is given.
    pub(super) fn egress(&mut self, name: &str) -> Result<(), Refusal> {
        let rule = one_name(name)?;
        let name = rule.to_string();
        if !self.rights.may_reach(&name) {
            return Err(Refusal::not_granted(&format!("machine.egress:{name}")));
        }
        if let Some(why) = self.closed {
            return Err(Refusal::new(
                "unavailable",
                format!("{why}, so `{name}` stays closed too"),
            ));
        }
        self.take_room(&name, "")?;
        self.granted.egress.insert(rule);
        Ok(())
    }

    fn take_room(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        if value.contains('\0') {
            return Err(Refusal::new("bad-argument", "a value has a NUL in it"));
        }
        let Asked { env, labels, egress, forwards } = &self.granted;
        if env.len() + labels.len() + egress.len() + forwards.len() >= limits::WISHES {
            let message = format!("a plugin has at most {} wishes", limits::WISHES);
            return Err(Refusal::new("too-many", message));
        }
        let bytes = self.bytes + name.len() + value.len();
        if bytes > limits::WISH_BYTES {
            let message =
                format!("the wishes of a plugin have at most {} bytes", limits::WISH_BYTES);
            return Err(Refusal::new("too-large", message));
        }
        self.bytes = bytes;
        Ok(())
    }
}

/// One name with or without one port, as a rule: no wildcard, no range of addresses, no range of ports.
fn one_name(text: &str) -> Result<Rule, Refusal> {
    let rule = text.parse::<Rule>().ok();
    let one = rule.filter(|rule| match (&rule.target, rule.ports) {
        (Target::Name(_), None) => true,
        (Target::Name(_), Some(Ports { first, last })) => first == last,
        (Target::Below(_) | Target::Range(_), _) => false,
    });
    one.ok_or_else(|| {
        let shown = shown(text);
        let message =
            format!("`{shown}` is not one full name, as `example.org` or `example.org:443`");
        Refusal::new("bad-argument", message)
    })
}

fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}
