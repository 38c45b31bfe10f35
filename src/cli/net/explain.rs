//! `cove net explain`: whether a VM may reach a host, and why.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::report::Kind;
use crate::wire::rpc::{NetExplain, NetExplainNow, NetExplanation};

use super::super::completion::vm_names;
use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::output::{Format, one_line};
use super::to_allow;

/// Arguments of `cove net explain`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    /// A name or an address; an IPv6 address with a port stands in brackets
    #[arg(value_name = "HOST[:PORT]", value_parser = asked)]
    host: Asked,
    #[command(flatten)]
    format: Format,
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    host: String,
    port: Option<u16>,
}

impl Arguments {
    pub(in super::super) async fn run(self) -> Result<u8, Failure> {
        let Asked { host, port } = self.host;
        let client = connect().await?;
        let asked = NetExplain { vm: self.vm.clone(), host, port };
        let explanation = client.call::<NetExplainNow>(asked).await?;
        self.format.print(&explanation, |explanation| render(&self.vm, explanation))?;
        Ok(if explanation.allowed { 0 } else { Kind::Refused.exit_status() })
    }
}

/// Reads HOST or HOST:PORT.
///
/// # Errors
/// When it is neither.
fn asked(text: &str) -> Result<Asked, String> {
    let wrong =
        || "write HOST or HOST:PORT, such as example.org:443 or [2001:db8::1]:443".to_owned();
    let alone = |host: &str| Asked { host: host.to_owned(), port: None };
    if text.parse::<IpAddr>().is_ok() {
        return Ok(alone(text));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
            if after.is_empty() {
                return Ok(alone(host));
            }
            (host, after.strip_prefix(':').ok_or_else(wrong)?)
        }
        None => match text.rsplit_once(':') {
            Some(parts) => parts,
            None => return Ok(alone(text)),
        },
    };
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    Ok(Asked { host: host.to_owned(), port: Some(port) })
}

/// The answer, what is said of each address, and what would allow it.
fn render(vm: &str, explanation: &NetExplanation) -> String {
    let mut text = String::new();
    let mut line = |start: &str, allowed: bool, because: &str| {
        let verdict = if allowed { "allowed" } else { "refused" };
        let because = one_line(because);
        writeln!(text, "{start}{verdict}: {because}").expect("a String can be written");
    };
    line("", explanation.allowed, &explanation.because);
    for address in &explanation.addresses {
        line(&format!("  {} ", address.address), address.allowed, &address.because);
    }
    if let Some(rule) = &explanation.would_allow {
        writeln!(text, "to allow it: {}", to_allow(vm, rule)).expect("a String can be written");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rpc::AddressExplanation;

    #[test]
    fn hosts_are_read_as_people_write_them() {
        for (text, host, port) in [
            ("example.org", "example.org", None),
            ("example.org:443", "example.org", Some(443)),
            ("1.2.3.4:53", "1.2.3.4", Some(53)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:80", "2001:db8::1", Some(80)),
        ] {
            assert_eq!(asked(text), Ok(Asked { host: host.to_owned(), port }), "{text}");
        }
        for bad in ["example.org:", "example.org:0", "a:70000", "https://a.org", "[::1", "[::1]80"]
        {
            assert!(asked(bad).expect_err(bad).contains("HOST:PORT"), "{bad}");
        }
    }

    #[test]
    fn an_answer_has_its_reason_and_a_way_out_and_cannot_lie() {
        let address = |address: &str, allowed, because: &str| AddressExplanation {
            address: address.parse().expect("an address"),
            allowed,
            because: because.to_owned(),
        };
        let explanation = NetExplanation {
            allowed: false,
            because: "no rule\nis about \u{1b}[2Jit".to_owned(),
            addresses: vec![
                address("1.2.3.4", true, "the rule `1.2.3.0/24`"),
                address("::1", false, "it is not public (loopback)"),
            ],
            would_allow: Some("*.example.org:443".parse().expect("a rule")),
        };
        insta::assert_snapshot!(render("web", &explanation), @r"
        refused: no rule\nis about \u{1b}[2Jit
          1.2.3.4 allowed: the rule `1.2.3.0/24`
          ::1 refused: it is not public (loopback)
        to allow it: cove net allow web '*.example.org:443'
        ");
    }
}
