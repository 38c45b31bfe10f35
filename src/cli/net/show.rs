//! `cove net show`: what a VM may reach.

use crate::wire::rpc::{NetMode, NetShow, NetShowNow, VmRef};

use super::super::completion::vm_names;
use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::output::{Format, pairs};
use super::warn;

/// Arguments of `cove net show`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(in super::super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        let shown = client.call::<NetShowNow>(VmRef { vm: self.vm }).await?;
        self.format.print(&shown, render)?;
        warn(&shown);
        Ok(0)
    }
}

/// A VM's network as names and values.
pub(super) fn render(shown: &NetShow) -> String {
    let mut rows = vec![("name", shown.name.clone()), ("net", shown.mode.as_str().to_owned())];
    rows.extend(shown.address.clone().map(|address| ("address", address)));
    rows.extend(shown.address6.clone().map(|address| ("address", address)));
    rows.extend(shown.peers.iter().map(|peer| ("peer", peer.clone())));
    if shown.mode != NetMode::None {
        rows.push(("egress", shown.egress.mode.as_str().to_owned()));
        rows.extend(shown.egress.rules.iter().map(|rule| ("rule", rule.to_string())));
        rows.extend(shown.wished.iter().map(|rule| ("by a plugin", rule.to_string())));
    }
    pairs(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::{Mode, Policy};

    #[test]
    fn a_policy_is_shown_with_its_rules() {
        let rule = |text: &str| text.parse().expect("a rule");
        let mut shown = NetShow {
            name: "web".to_owned(),
            mode: NetMode::Bridge,
            address: Some("10.203.0.7".to_owned()),
            address6: Some("fd12:3456:789a:1::7".to_owned()),
            peers: vec!["db".to_owned()],
            egress: Policy {
                mode: Mode::Allow,
                rules: vec![rule("*.example.org:443"), rule("10.0.0.0/8")],
            },
            wished: vec![rule("registry.example")],
            warnings: Vec::new(),
        };
        insta::assert_snapshot!(render(&shown), @r"
        name         web
        net          bridge
        address      10.203.0.7
        address      fd12:3456:789a:1::7
        peer         db
        egress       allow
        rule         *.example.org:443
        rule         10.0.0.0/8
        by a plugin  registry.example
        ");
        (shown.mode, shown.peers) = (NetMode::None, Vec::new());
        (shown.address, shown.address6) = (None, None);
        insta::assert_snapshot!(render(&shown), @r"
        name  web
        net   none
        ");
    }
}
