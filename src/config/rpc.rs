//! `[rpc]`: where the daemon can be reached besides its Unix socket.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// `[rpc]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RpcConfig {
    /// An address of the loopback to listen on as well; none when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<LoopbackAddress>,
}

/// An address and port of the loopback: valid by construction, so that no configuration can make the
/// daemon answer to other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LoopbackAddress(SocketAddr);

/// Why an address cannot be listened on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not ADDRESS:PORT of the loopback, such as \"127.0.0.1:7777\"", .0.escape_debug())]
pub struct NotLoopback(String);

impl LoopbackAddress {
    /// The address.
    #[must_use]
    pub fn get(self) -> SocketAddr {
        self.0
    }
}

impl TryFrom<String> for LoopbackAddress {
    type Error = NotLoopback;

    fn try_from(text: String) -> Result<Self, NotLoopback> {
        let address = text.parse::<SocketAddr>().ok();
        let address = address.filter(|address| address.ip().is_loopback() && address.port() != 0);
        address.map(Self).ok_or(NotLoopback(text))
    }
}

impl From<LoopbackAddress> for String {
    fn from(address: LoopbackAddress) -> String {
        address.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_loopback_are_taken() {
        let parse = |text: &str| LoopbackAddress::try_from(text.to_owned());
        for good in ["127.0.0.1:7777", "127.9.9.9:1", "[::1]:65535"] {
            assert_eq!(parse(good).map(String::from).as_deref(), Ok(good));
        }
        for bad in [
            "0.0.0.0:7777",
            "192.168.1.5:7777",
            "[::]:7777",
            "[::ffff:127.0.0.1]:7777",
            "127.0.0.1:0",
            "127.0.0.1",
            "localhost:7777",
            "",
        ] {
            parse(bad).expect_err(bad);
        }
    }
}
