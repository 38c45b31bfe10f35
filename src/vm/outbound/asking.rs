//! The service's face for what VMs may reach: changing it, and asking about it.

use std::net::IpAddr;
use std::time::Duration;

use super::change::Reach;
use crate::egress::{BadName, DnsName, Facts, Policy, Verdict, decide_address, decide_name};
use crate::report::{Kind, Report};
use crate::vm::command::Command;
use crate::vm::record::VmRecord;
use crate::vm::service::VmService;
use crate::wire::rpc::{
    Denials, NetDenials, NetExplain, NetExplanation, NetMode, NetRule, NetShow, VmState,
};

/// The longest wait for a denial, in milliseconds.
const MAX_WAIT_MS: u64 = 30_000;

/// How long the end of a VM may take to be known when its keeper is gone already.
const END_KNOWN: Duration = Duration::from_secs(5);

/// Somebody to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Name(DnsName),
}

impl VmService {
    /// What a VM may reach.
    ///
    /// # Errors
    /// When there is no such VM.
    pub fn net(&self, wanted: &str) -> Result<NetShow, Report> {
        let record = self.handle(wanted)?.view.borrow().record.clone();
        let peers = self.peers(&record);
        Ok(NetShow { peers, ..shown(&record) })
    }

    /// Adds a rule. One that is there already changes nothing.
    ///
    /// # Errors
    /// When there is no such VM, it has no network or too many rules, or its keeper cannot be told: that
    /// error says what has changed.
    pub async fn allow(&self, wanted: NetRule) -> Result<NetShow, Report> {
        self.reach(&wanted.vm, Reach::Allow(wanted.rule)).await
    }

    /// Takes a rule back.
    ///
    /// # Errors
    /// The same, and when the rule is not there.
    pub async fn deny(&self, wanted: NetRule) -> Result<NetShow, Report> {
        self.reach(&wanted.vm, Reach::Deny(wanted.rule)).await
    }

    async fn reach(&self, wanted: &str, change: Reach) -> Result<NetShow, Report> {
        let handle = self.handle(wanted)?;
        let shown = handle.ask(wanted, |answer| Command::Reach { change, answer }).await?;
        let peers = self.peers(&handle.view.borrow().record);
        Ok(NetShow { peers, ..shown })
    }

    /// Why a VM may or may not reach a host. Of one that does not run it is told what its rules say.
    ///
    /// # Errors
    /// When there is no such VM, what is asked about is no host, or its keeper does not answer.
    pub async fn explain(&self, wanted: &NetExplain) -> Result<NetExplanation, Report> {
        let record = self.handle(&wanted.vm)?.view.borrow().record.clone();
        let host = host(&wanted.host)?;
        let port = wanted.port;
        if port == Some(0) {
            return Err(Report::new(Kind::Invalid, "there is no port 0")
                .with_hint("give a port from 1 to 65535, or none"));
        }
        let name = &record.name;
        if record.spec.net == NetMode::None {
            let because = format!("`{name}` has no network");
            let addresses = Vec::new();
            return Ok(NetExplanation { allowed: false, because, addresses, would_allow: None });
        }
        if record.state.view() != VmState::Running {
            let mut explanation = by_rules(&record.egress(), &host, port);
            let because = &mut explanation.because;
            because.push_str(&format!("; that is what its rules say, for `{name}` is not running"));
            return Ok(explanation);
        }
        let text = match &host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.to_string(),
        };
        let outbound = &self.shared.ports.outbound;
        outbound.explain(&record.id, &self.folder(&record.id), &text, port).await
    }

    /// What a VM that runs was refused; waits for something when told so.
    ///
    /// # Errors
    /// When there is no such VM, it does not run or has no network, or its keeper does not answer.
    pub async fn denials(&self, wanted: &NetDenials) -> Result<Denials, Report> {
        if wanted.wait_ms > MAX_WAIT_MS {
            let message =
                format!("`wait_ms` is {}, but must lie in 0 to {MAX_WAIT_MS}", wanted.wait_ms);
            return Err(Report::new(Kind::Invalid, message));
        }
        let handle = self.handle(&wanted.vm)?;
        let record = handle.view.borrow().record.clone();
        record.check_network()?;
        check_running(&record)?;
        let (folder, wait) = (self.folder(&record.id), Duration::from_millis(wanted.wait_ms));
        let outbound = &self.shared.ports.outbound;
        let denials = outbound.denials(&record.id, &folder, wanted.after, wait).await;
        let Err(error) = denials else {
            return denials;
        };
        // A keeper that has gone with its VM is no failure of its own, but it may go a moment before that
        // is written down.
        let mut view = handle.view.clone();
        let rests = view.wait_for(|seen| seen.record.state.view() != VmState::Running);
        match tokio::time::timeout(END_KNOWN, rests).await {
            Ok(Ok(seen)) => Err(check_running(&seen.record).err().unwrap_or(error)),
            // Its owner is gone, and so is the VM, or the daemon ends.
            Ok(Err(_)) => Err(self.handle(&wanted.vm).err().unwrap_or(error)),
            Err(_) => Err(error),
        }
    }
}

fn check_running(record: &VmRecord) -> Result<(), Report> {
    if record.state.view() == VmState::Running {
        return Ok(());
    }
    let name = &record.name;
    let message =
        format!("the VM `{name}` is not running, and what it was refused goes with its boot");
    Err(Report::new(Kind::Conflict, message)
        .with_hint(format!("start it with `cove start {name}`")))
}

/// What a VM may reach, as clients see it, but for its peers.
pub(super) fn shown(record: &VmRecord) -> NetShow {
    let own = &record.spec.egress;
    let boot = record.state.boot();
    let network = boot.and_then(|boot| boot.network.as_ref());
    let wished = boot.into_iter().flat_map(|boot| &boot.extras.egress);
    NetShow {
        name: record.name.to_string(),
        mode: record.spec.net,
        address: network.map(|network| network.address.to_string()),
        address6: network.and_then(|n| n.ipv6).map(|ipv6| ipv6.address.to_string()),
        peers: Vec::new(),
        egress: own.clone(),
        wished: wished.filter(|rule| !own.rules.contains(rule)).cloned().collect(),
        warnings: if record.spec.net == NetMode::None { Vec::new() } else { own.warnings() },
    }
}

fn host(text: &str) -> Result<Host, Report> {
    if let Ok(address) = text.parse() {
        return Ok(Host::Address(address));
    }
    text.parse().map(Host::Name).map_err(|error: BadName| {
        let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
        Report::new(Kind::Invalid, format!("`{shown}` is neither a full name nor an address"))
            .with_cause(&error)
            .with_hint("write a name such as `example.org`, or an address")
    })
}

/// What rules say, without what only a VM that runs knows: its answers, and the host's addresses.
fn by_rules(policy: &Policy, host: &Host, port: Option<u16>) -> NetExplanation {
    let Verdict { allowed, because } = match host {
        Host::Address(address) => decide_address(policy, *address, port, &Facts::default()),
        Host::Name(name) => decide_name(policy, name, port),
    };
    let would_allow = match host {
        Host::Address(address) => because.would_allow(None, Some(*address), port),
        Host::Name(name) => because.would_allow(Some(name), None, port),
    };
    let (because, addresses) = (because.to_string(), Vec::new());
    NetExplanation { allowed, because, addresses, would_allow }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Mode;

    #[test]
    fn what_would_allow_it_does() {
        for (mode, asked, port) in [
            (Mode::Allow, "example.org", Some(443)),
            (Mode::Allow, "example.org", None),
            (Mode::Allow, "1.1.1.1", Some(53)),
            (Mode::Allow, "10.1.2.3", None),
            (Mode::Open, "10.1.2.3", Some(5432)),
            (Mode::Open, "169.254.169.254", Some(80)),
            (Mode::Open, "::1", Some(80)),
        ] {
            let host = host(asked).expect("a host");
            let mut policy = Policy { mode, rules: Vec::new() };
            let refused = by_rules(&policy, &host, port);
            assert!(!refused.allowed, "{asked}");
            policy.rules.push(refused.would_allow.expect(asked));
            let allowed = by_rules(&policy, &host, port);
            assert!(allowed.allowed && allowed.would_allow.is_none(), "{asked}: {allowed:?}");
        }
        let closed = Policy { mode: Mode::Closed, rules: Vec::new() };
        let refused = by_rules(&closed, &host("example.org").expect("a host"), None);
        assert_eq!((refused.allowed, refused.would_allow), (false, None));
    }

    #[test]
    fn what_is_no_host_is_refused_with_the_reason() {
        for text in ["", "localhost", "*.example.org", "1.2.3", "a b.c", "\u{1b}[2J.org"] {
            let error = host(text).expect_err(text);
            assert!(error.kind == Kind::Invalid && error.cause.len() == 1, "{error:?}");
            assert!(!error.message.contains('\u{1b}'), "{error:?}");
        }
    }
}
