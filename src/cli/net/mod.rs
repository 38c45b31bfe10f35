//! `cove net`: what a VM may reach. One file per command.

mod allow;
mod denials;
mod deny;
mod explain;
mod names;
mod show;

use crate::egress::Rule;
use crate::wire::rpc::NetShow;

use super::failure::Failure;
use super::output::{one_line, say};

/// The commands of `cove net`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show what a VM may reach
    Show(show::Arguments),
    /// List what a VM was refused since it started, and what would allow it
    Denials(denials::Arguments),
    /// Say whether a VM may reach a host, and why; exits with 6 when it may not
    Explain(explain::Arguments),
    /// Let a VM reach something more, at once
    Allow(allow::Arguments),
    /// Take such a rule back, at once
    Deny(deny::Arguments),
    /// Print how this host comes to find VMs on the bridge by name
    Names(names::Arguments),
}

impl Command {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        match self {
            Self::Show(arguments) => arguments.run().await,
            Self::Denials(arguments) => arguments.run().await,
            Self::Explain(arguments) => arguments.run().await,
            Self::Allow(arguments) => arguments.run().await,
            Self::Deny(arguments) => arguments.run().await,
            Self::Names(arguments) => arguments.run().await,
        }
    }
}

/// What the owner should know of the policy, on stderr.
fn warn(shown: &NetShow) {
    for warning in &shown.warnings {
        say(&format!("warning: {}", one_line(warning)));
    }
}

/// The command that allows something, fit for a shell.
fn to_allow(vm: &str, rule: &Rule) -> String {
    let rule = rule.to_string();
    // Brackets and stars are patterns of the shell.
    let quote = if rule.contains(['[', '*']) { "'" } else { "" };
    format!("cove net allow {} {quote}{rule}{quote}", one_line(vm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_allow_something_can_be_pasted() {
        for (rule, command) in [
            ("example.org:443", "cove net allow web example.org:443"),
            ("*.example.org", "cove net allow web '*.example.org'"),
            ("[2001:db8::1]:80", "cove net allow web '[2001:db8::1]:80'"),
            ("10.0.0.0/8", "cove net allow web 10.0.0.0/8"),
        ] {
            assert_eq!(to_allow("web", &rule.parse().expect("a rule")), command);
        }
    }
}
