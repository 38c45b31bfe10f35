//! What a user has to do so that the host finds the names of VMs: texts for each way in which hosts find
//! names. Changing the host's own resolver is for its owner to do.

use std::net::SocketAddr;
use std::path::Path;

use crate::egress::DnsName;

/// How a host finds names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostNames {
    /// systemd-resolved.
    SystemdResolved,
    /// The dnsmasq that NetworkManager runs.
    NetworkManagerDnsmasq,
    /// A file with nameservers.
    PlainResolvConf,
}

impl HostNames {
    /// Those that this host may have: one where that is plain. `root` is the root folder.
    pub(crate) fn of_the_host(root: &Path) -> Vec<Self> {
        if root.join("run/systemd/resolve").is_dir() {
            return vec![Self::SystemdResolved];
        }
        match root.join("run/NetworkManager").is_dir() {
            true => vec![Self::NetworkManagerDnsmasq, Self::PlainResolvConf],
            false => vec![Self::PlainResolvConf],
        }
    }
}

/// What to do, for the resolver at `address` with the zone `zone`: shell commands, with their reason.
pub(crate) fn recipe(host: HostNames, address: SocketAddr, zone: &DnsName) -> String {
    let (ip, port) = (address.ip(), address.port());
    match host {
        HostNames::SystemdResolved => format!(
            "# systemd-resolved (246 or newer): send names below `{zone}` to cove\n\
             sudo mkdir -p /etc/systemd/resolved.conf.d\n\
             printf '[Resolve]\\nDNS={address}\\nDomains=~{zone}\\n' \
             | sudo tee /etc/systemd/resolved.conf.d/cove.conf\n\
             sudo systemctl restart systemd-resolved\n"
        ),
        HostNames::NetworkManagerDnsmasq => format!(
            "# NetworkManager with `dns=dnsmasq`: send names below `{zone}` to cove\n\
             echo 'server=/{zone}/{ip}#{port}' | sudo tee /etc/NetworkManager/dnsmasq.d/cove.conf\n\
             sudo systemctl restart NetworkManager\n"
        ),
        HostNames::PlainResolvConf => format!(
            "# /etc/resolv.conf cannot send only the names below `{zone}` to another nameserver, and cove\n\
             # answers no other names. Put a dnsmasq in between, with this line in its configuration,\n\
             # and make it the nameserver of /etc/resolv.conf:\n\
             server=/{zone}/{ip}#{port}\n"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(host: HostNames, address: &str) -> String {
        let address = address.parse().expect("an address");
        recipe(host, address, &"cove.internal".parse().expect("a name"))
    }

    #[test]
    fn recipes_have_the_address_and_the_zone_as_each_resolver_writes_them() {
        let resolved = text(HostNames::SystemdResolved, "127.0.0.1:5354");
        assert!(resolved.contains("[Resolve]\\nDNS=127.0.0.1:5354\\nDomains=~cove.internal\\n'"));
        let resolved = text(HostNames::SystemdResolved, "[::1]:5354");
        assert!(resolved.contains("DNS=[::1]:5354\\n"));
        for host in [HostNames::NetworkManagerDnsmasq, HostNames::PlainResolvConf] {
            assert!(text(host, "127.0.0.1:5354").contains("server=/cove.internal/127.0.0.1#5354"));
            assert!(text(host, "[::1]:5354").contains("server=/cove.internal/::1#5354"));
        }
        for line in text(HostNames::SystemdResolved, "127.0.0.1:5354").lines() {
            assert_eq!(line.trim(), line, "no stray spaces");
        }
    }

    #[test]
    fn a_host_is_known_by_its_folders() {
        let root = tempfile::tempdir().expect("a folder");
        let found = || HostNames::of_the_host(root.path());
        let make = |folder: &str| std::fs::create_dir_all(root.path().join(folder)).expect("made");
        assert_eq!(found(), [HostNames::PlainResolvConf]);
        make("run/NetworkManager");
        assert_eq!(found(), [HostNames::NetworkManagerDnsmasq, HostNames::PlainResolvConf]);
        make("run/systemd/resolve");
        assert_eq!(found(), [HostNames::SystemdResolved]);
    }
}
