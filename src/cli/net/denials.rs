//! `cove net denials`: what a VM was refused, which is text of a guest in part: escaped.

use std::time::Duration;

use tokio::time::Instant;

use crate::report::Kind;
use crate::rpc::client::Client;
use crate::wire::rpc::{Denial, Denials, NetDenials, NetDenialsNow, Tried};

use super::super::completion::vm_names;
use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::output::{Format, failed, one_line, print, say};
use super::to_allow;

/// How long the daemon waits for one more before it answers that there is none.
const WAIT_MS: u64 = 25_000;

/// How long two questions lie apart at least when nothing has come.
const APART: Duration = Duration::from_secs(1);

/// Arguments of `cove net denials`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    /// Go on until the VM stops; with --json, one JSON value a line
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(in super::super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        let now = self.ask(&client, 0, 0).await?;
        if self.follow {
            self.follow(&client, now).await?;
            return Ok(0);
        }
        self.format.print(&now, |now| {
            now.denials.iter().map(|denial| line(&self.vm, denial)).collect::<Vec<_>>().join("\n")
        })?;
        tell_lost(&now);
        if now.denials.is_empty() && !self.format.json {
            say("nothing has been refused since its start");
        }
        Ok(0)
    }

    async fn ask(&self, client: &Client, after: u64, wait_ms: u64) -> Result<Denials, Failure> {
        let asked = NetDenials { vm: self.vm.clone(), after, wait_ms };
        Ok(client.call::<NetDenialsNow>(asked).await?)
    }

    /// Shows these, and what comes, until the VM runs no more.
    async fn follow(&self, client: &Client, mut denials: Denials) -> Result<(), Failure> {
        let (mut seen, mut told) = (0, 0);
        loop {
            // The same question again has the same loss in its answer.
            if !denials.denials.is_empty() || denials.lost != told {
                tell_lost(&denials);
            }
            told = if denials.denials.is_empty() { denials.lost } else { 0 };
            for denial in &denials.denials {
                seen = denial.number;
                self.show(denial)?;
            }
            let asked = Instant::now();
            denials = match self.ask(client, seen, WAIT_MS).await {
                Err(Failure::Report(report)) if is_over(report.kind) => return Ok(()),
                answered => answered?,
            };
            // Nothing may come early, for example when too many wait already.
            if denials.denials.is_empty() {
                tokio::time::sleep_until(asked + APART).await;
            }
        }
    }

    fn show(&self, denial: &Denial) -> Result<(), Failure> {
        if !self.format.json {
            return print(&line(&self.vm, denial));
        }
        let json = serde_json::to_string(denial);
        print(&json.map_err(|error| failed("cannot write a denial as JSON", &error))?)
    }
}

/// Whether that is said of a VM that has run so far and does no more.
fn is_over(kind: Kind) -> bool {
    match kind {
        Kind::Conflict | Kind::NotFound => true,
        Kind::Failed
        | Kind::Invalid
        | Kind::Unreachable
        | Kind::Refused
        | Kind::TimedOut
        | Kind::Cancelled => false,
    }
}

fn tell_lost(denials: &Denials) {
    if denials.lost > 0 {
        say(&format!("note: {} before these are no longer kept", denials.lost));
    }
}

/// A denial on one line: when, what, why, and how to allow it.
fn line(vm: &str, denial: &Denial) -> String {
    let times = match denial.times {
        0 | 1 => String::new(),
        times => format!(" ({times} times)"),
    };
    let (at, what, because) = (&denial.at, tried(&denial.what), &denial.because);
    let allow = denial.would_allow.as_ref().map(|rule| format!("; {}", to_allow(vm, rule)));
    let allow = allow.unwrap_or_default();
    one_line(&format!("{at}  {what}{times}: {because}{allow}"))
}

fn tried(what: &Tried) -> String {
    match what {
        Tried::Resolve { name } => format!("resolve {name}"),
        Tried::Reach { protocol, address, port, name } => {
            let at = match port {
                Some(port) => std::net::SocketAddr::new(*address, *port).to_string(),
                None => address.to_string(),
            };
            let name = name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
            format!("{protocol} {at}{name}")
        }
        Tried::Greet { address, name: Some(name) } => format!("tls {name} at {address}"),
        Tried::Greet { address, name: None } => format!("no tls name at {address}"),
        Tried::Spoof { address } => format!("send as {address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_are_one_line_each_and_cannot_lie() {
        let address = "2001:db8::1".parse().expect("an address");
        let evil = || "evil\u{1b}[2J\n.test".to_owned();
        let tried = [
            (Tried::Resolve { name: evil() }, Some("evil.test")),
            (
                Tried::Reach {
                    protocol: "tcp".to_owned(),
                    address,
                    port: Some(80),
                    name: Some(evil()),
                },
                Some("[2001:db8::1]:80"),
            ),
            (Tried::Reach { protocol: "icmp".to_owned(), address, port: None, name: None }, None),
            (Tried::Greet { address, name: Some(evil()) }, None),
            (Tried::Greet { address, name: None }, None),
            (Tried::Spoof { address }, None),
        ];
        let shown = |(number, (what, rule)): (usize, (Tried, Option<&str>))| {
            let denial = Denial {
                number: number as u64 + 1,
                at: "2026-11-23T12:00:00Z".to_owned(),
                what,
                because: "no rule".to_owned(),
                would_allow: rule.map(|rule| rule.parse().expect("a rule")),
                times: number as u64 + 1,
            };
            line("web", &denial)
        };
        let lines: Vec<_> = tried.into_iter().enumerate().map(shown).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        2026-11-23T12:00:00Z  resolve evil\u{1b}[2J\n.test: no rule; cove net allow web evil.test
        2026-11-23T12:00:00Z  tcp [2001:db8::1]:80 (evil\u{1b}[2J\n.test) (2 times): no rule; cove net allow web '[2001:db8::1]:80'
        2026-11-23T12:00:00Z  icmp 2001:db8::1 (3 times): no rule
        2026-11-23T12:00:00Z  tls evil\u{1b}[2J\n.test at 2001:db8::1 (4 times): no rule
        2026-11-23T12:00:00Z  no tls name at 2001:db8::1 (5 times): no rule
        2026-11-23T12:00:00Z  send as 2001:db8::1 (6 times): no rule
        ");
    }
}
