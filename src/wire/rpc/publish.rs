//! Ports of a guest that are reachable at ports of the host.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A port of a guest at a port of the host. As text `[HOST:]PORT:GUESTPORT`, such as `8080:80`,
/// `127.0.0.1:8080:80` or `[::1]:8080:80`; it is always shown with its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Publish {
    /// The address of the host: its loopback unless said.
    pub host: IpAddr,
    /// The port of the host; 0 for any that is free, where somebody is there to hear which.
    pub port: u16,
    /// The port of the guest, never 0.
    pub guest_port: u16,
}

/// A text that names no forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPublish {
    /// It has another shape.
    #[error("`{}` is not [HOST:]PORT:GUESTPORT: write 8080:80 or 127.0.0.1:8080:80", .0.escape_debug())]
    Shape(String),
    /// One of the ports is none.
    #[error("`{}` is no port: write a number up to 65535", .0.escape_debug())]
    Port(String),
    /// The guest's port is 0.
    #[error("the guest's port cannot be 0")]
    GuestPort,
    /// The host is no address.
    #[error("`{}` is no address of this host: write one such as 127.0.0.1, 0.0.0.0 or [::1]", .0.escape_debug())]
    Host(String),
}

/// The longest text that is repeated in an error.
const SHOWN: usize = 60;

impl Publish {
    /// Whether no two can be there at once: they want one port of one address, or of all addresses. Those
    /// of IPv4 are all to `0.0.0.0`, those of both families to `[::]`.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        let covers = |one: &Self, other: &Self| {
            one.host.is_unspecified() && (one.host.is_ipv6() || other.host.is_ipv4())
        };
        let meet = self.host == other.host || covers(self, other) || covers(other, self);
        self.port == other.port && meet
    }

    /// Where it is on the host.
    #[must_use]
    pub fn address(&self) -> std::net::SocketAddr {
        (self.host, self.port).into()
    }
}

impl FromStr for Publish {
    type Err = InvalidPublish;

    fn from_str(text: &str) -> Result<Self, InvalidPublish> {
        let cut = |text: &str| text.chars().take(SHOWN).collect::<String>();
        let shape = || InvalidPublish::Shape(cut(text));
        let (rest, guest_port) = text.rsplit_once(':').ok_or_else(shape)?;
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (Some(host), port),
            None => (None, rest),
        };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let port = digits.then(|| text.parse::<u16>().ok()).flatten();
            port.ok_or_else(|| InvalidPublish::Port(cut(text)))
        };
        let host = match host {
            None => Ipv4Addr::LOCALHOST.into(),
            Some(host) => address(host).ok_or_else(|| InvalidPublish::Host(cut(host)))?,
        };
        let (port, guest_port) = (number(port)?, number(guest_port)?);
        if guest_port == 0 {
            return Err(InvalidPublish::GuestPort);
        }
        Ok(Self { host, port, guest_port })
    }
}

/// An address, one of IPv6 in brackets.
fn address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    }
}

impl std::fmt::Display for Publish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.address(), self.guest_port)
    }
}

impl TryFrom<String> for Publish {
    type Error = InvalidPublish;
    fn try_from(text: String) -> Result<Self, InvalidPublish> {
        text.parse()
    }
}

impl From<Publish> for String {
    fn from(publish: Publish) -> Self {
        publish.to_string()
    }
}

/// Parameters of `vm.forward`: one connection to a port of a guest. The returned ticket opens its byte
/// stream, which carries frames as they are said at `wire::guest::Request::Connect`, from the reply on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ForwardVm {
    /// The VM.
    pub vm: String,
    /// The port of the guest.
    pub port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_shown_with_its_host() {
        for (text, shown) in [
            ("8080:80", "127.0.0.1:8080:80"),
            ("0:65535", "127.0.0.1:0:65535"),
            ("0.0.0.0:1:2", "0.0.0.0:1:2"),
            ("[::1]:8080:80", "[::1]:8080:80"),
            ("[::]:8080:80", "[::]:8080:80"),
        ] {
            let publish: Publish = text.parse().expect("understood");
            assert_eq!(publish.to_string(), shown);
            assert_eq!(shown.parse(), Ok(publish), "it is read as it is shown");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_to_write() {
        for (text, part) in [
            ("", "[HOST:]PORT:GUESTPORT"),
            ("80", "[HOST:]PORT:GUESTPORT"),
            ("http:80", "`http` is no port"),
            ("8080:", "`` is no port"),
            ("+1:80", "`+1` is no port"),
            ("65536:80", "`65536` is no port"),
            ("1:-2", "`-2` is no port"),
            ("1:0", "cannot be 0"),
            ("localhost:1:2", "`localhost` is no address"),
            ("::1:8080:80", "`::1` is no address"),
            ("[127.0.0.1]:1:2", "no address"),
            (":1:2", "`` is no address"),
            ("1.2.3.4:5:6:7", "`1.2.3.4:5` is no address"),
            ("\u{1b}[2J:1:2", "\\u{1b}[2J"),
        ] {
            let error = text.parse::<Publish>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn one_port_of_one_address_is_had_once() {
        let collide = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| text.parse::<Publish>().expect("valid"));
            assert_eq!(one.collides(&other), other.collides(&one));
            one.collides(&other)
        };
        assert!(collide("8080:80", "8080:81") && collide("0.0.0.0:8080:80", "8080:80"));
        assert!(collide("[::]:8080:80", "8080:80") && collide("[::]:8080:80", "0.0.0.0:8080:80"));
        assert!(collide("[::]:8080:80", "[::1]:8080:80"));
        assert!(!collide("0.0.0.0:8080:80", "[::1]:8080:80"));
        assert!(!collide("8080:80", "8081:80") && !collide("127.0.0.2:8080:80", "8080:80"));
    }
}
