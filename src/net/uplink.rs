//! The uplink: `pasta`, which carries what the rules let out over ordinary sockets of the user.
//!
//! It takes Debian 12's pasta of March 2023 and newer ones. Nothing of the host reaches in (`-t none -u
//! none`), the host's loopback is not mapped (`--no-map-gw -T none -U none`); everything else that must
//! not be reached is the rules' business (`rules/`), because to pasta the host's own addresses are
//! addresses like any other.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use super::link;
use super::rules::ResolverTransport;
use crate::id::VmId;
use crate::process::{Tool, ToolError};

/// The program.
pub(crate) const PROGRAM: &str = "pasta";

/// Printing a help text takes milliseconds.
const HELP_DEADLINE: Duration = Duration::from_secs(10);

/// The option whose presence tells a pasta that carries DNS over TCP to the host's resolver: it came
/// after that ability. Versions are no help: Debian's calls itself "unknown version".
const OPTION_OF_TCP_DNS: &str = "--dns-host";

/// pasta's end of the uplink is a made-up station; without `-M` it would look for the one of the host's
/// interface.
const STATION: &str = "02:00:00:00:00:05";

/// The arguments for the uplink of `vm` into the namespaces of the process `keeper`.
pub(crate) fn arguments(vm: &VmId, keeper: i32) -> Vec<OsString> {
    let mut arguments: Vec<String> = [
        "--foreground",
        "--ipv4-only",
        "--config-net",
        "--no-map-gw",
        "--tcp-ports=none",
        "--udp-ports=none",
        "--tcp-ns=none",
        "--udp-ns=none",
        "--no-dhcp",
        "--no-dhcpv6",
        "--no-ndp",
        "--no-ra",
        // A template that is always there, because nothing is taken from it: the uplink starts while the
        // host has no network, and follows it to another one.
        "--interface=lo",
    ]
    .map(str::to_owned)
    .into();
    arguments.extend([
        format!("--mac-addr={STATION}"),
        format!("--ns-ifname={}", link::uplink_name(vm)),
        format!("--address={}", link::UPLINK_ADDRESS),
        format!("--netmask={}", link::PREFIX),
        format!("--gateway={}", link::UPLINK_GATEWAY),
        format!("--mtu={}", link::MTU),
        format!("--dns-forward={}", link::RESOLVER),
    ]);
    if nix::unistd::geteuid().is_root() {
        // As `nobody`, its default, it may not enter root's namespaces. It leaves root's power behind
        // there: in the keeper's user namespace it is root over nothing but that.
        arguments.push("--runas=0".to_owned());
    }
    arguments.push(keeper.to_string());
    arguments.into_iter().map(OsString::from).collect()
}

/// What the installed pasta does with DNS over TCP. Not knowing counts as not doing it.
pub(crate) async fn resolver_transport(path: &OsStr) -> ResolverTransport {
    let help = Tool::new(PROGRAM).arg("--help").env("PATH", path).deadline(HELP_DEADLINE);
    let text = match help.run().await {
        Ok(stdout) => String::from_utf8_lossy(&stdout).into_owned(),
        // The old one prints its help on stderr and fails.
        Err(ToolError::Failed { stderr, .. }) => stderr,
        Err(_) => String::new(),
    };
    if text.contains(OPTION_OF_TCP_DNS) {
        ResolverTransport::UdpAndTcp
    } else {
        ResolverTransport::Udp
    }
}
