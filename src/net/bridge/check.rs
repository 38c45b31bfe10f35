//! Whether somebody else's rules would drop what the bridge's VMs send: every program's chains are asked
//! about a forwarded packet, and one that drops is enough.
//!
//! What `iptables-legacy` has loaded cannot be seen here.

use nlink::netlink::nftables::{ChainInfo, Family, Hook, Policy};
use nlink::netlink::{Connection, Nftables};
use serde::{Deserialize, Serialize};

use super::error::BridgeError;

/// Why VMs of the bridge reach nothing but the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardingProblem {
    /// Which chain drops, as one sentence.
    pub what: String,
    /// How to mend it, as one sentence with a command.
    pub fix: String,
}

fn opened() -> Result<Connection<Nftables>, BridgeError> {
    Connection::<Nftables>::new().map_err(|source| BridgeError::reading("open", source))
}

async fn chains(netlink: &Connection<Nftables>) -> Result<Vec<ChainInfo>, BridgeError> {
    let listed = netlink.list_chains().await;
    listed.map_err(|source| BridgeError::reading("list", source))
}

fn forwards(chain: &ChainInfo) -> bool {
    let families = [Family::Inet, Family::Ip, Family::Ip6];
    let hook = chain.hook.and_then(|number| Hook::from_number(chain.family, number));
    families.contains(&chain.family) && hook == Some(Hook::Forward)
}

/// Whether others than the bridge have rules about forwarded packets, and so count on forwarding.
pub(super) async fn others_forward(bridge: &str) -> Result<bool, BridgeError> {
    let chains = chains(&opened()?).await?;
    Ok(chains.iter().any(|chain| chain.table != bridge && forwards(chain)))
}

/// Looks for a chain of somebody else that drops forwarded packets unless told otherwise, in a table that
/// has no rule about the bridge.
///
/// # Errors
/// When the rules cannot be read.
pub(super) async fn find_problem(bridge: &str) -> Result<Option<ForwardingProblem>, BridgeError> {
    let netlink = opened()?;
    let chains = chains(&netlink).await?;
    let drop = Some(Policy::Drop.to_u32());
    let dropping =
        |chain: &&ChainInfo| chain.table != bridge && forwards(chain) && chain.policy == drop;
    // By IPv6 nothing is forwarded but what peers say to each other, and they have IPv4.
    for chain in chains.iter().filter(dropping).filter(|chain| chain.family != Family::Ip6) {
        let rules = netlink.list_rules(&chain.table, chain.family).await;
        let rules = rules.map_err(|source| BridgeError::Rules { doing: "list", source })?;
        let named =
            |bytes: &[u8]| bytes.windows(bridge.len()).any(|part| part == bridge.as_bytes());
        if !rules.iter().any(|rule| named(&rule.expression_bytes)) {
            let names: Vec<&str> = chains.iter().map(|chain| chain.name.as_str()).collect();
            return Ok(Some(problem(chain, &names, bridge)));
        }
    }
    Ok(None)
}

fn problem(chain: &ChainInfo, names: &[&str], bridge: &str) -> ForwardingProblem {
    let what = format!(
        "the chain `{}` of the table `{} {}` drops what VMs of `{bridge}` send to others than the host",
        chain.name, chain.family, chain.table
    );
    let has = |name: &str| names.contains(&name);
    let fix = if has("DOCKER-USER") {
        format!(
            "allow it where Docker leaves room for that: `sudo iptables -I DOCKER-USER -i {bridge} -j \
             ACCEPT && sudo iptables -I DOCKER-USER -o {bridge} -m conntrack --ctstate \
             RELATED,ESTABLISHED -j ACCEPT`"
        )
    } else if has("ufw-user-forward") {
        format!("allow it in ufw: `sudo ufw route allow in on {bridge}`")
    } else if chain.table == "firewalld" {
        format!(
            "allow it in firewalld: `sudo firewall-cmd --permanent --zone=trusted --add-interface={bridge} \
             && sudo firewall-cmd --reload`"
        )
    } else {
        format!(
            "accept there what comes from `{bridge}`, and established connections into it: `sudo nft insert \
             rule {family} {table} {name} iifname {bridge} accept && sudo nft insert rule {family} \
             {table} {name} oifname {bridge} ct state established,related accept`",
            family = chain.family,
            table = chain.table,
            name = chain.name,
        )
    };
    ForwardingProblem { what, fix }
}
