//! Benchmarks of a VM's network. Nothing is asserted about time: `scripts/bench-network.sh` runs them, and
//! prints what they found. What is compared is measured in the same run, in turns, so that a busy or slow
//! host slows both.

#[path = "measure/bulk.rs"]
mod bulk;
#[path = "measure/traffic.rs"]
mod traffic;

use std::io::Write;
use std::time::Duration;

use cove::egress::Mode;

use crate::internet::Internet;
use crate::network_daemon::{By, Daemon, ORDINARY, Started};
use crate::network_driver::starts::Timed;
use crate::network_driver::{Answer, Command};
use traffic::{TOLD_APART, TRAFFIC, Traffic};

/// Turns of each kind of traffic with each policy, after one that does not count.
const TURNS: usize = 15;

fn print(text: &str) {
    writeln!(std::io::stdout(), "{text}").expect("written");
}

#[test]
#[ignore = "a benchmark: scripts/bench-network.sh runs it"]
fn starts_with_and_without_a_network_made_ahead_and_on_the_bridge() {
    if crate::skipped() {
        return;
    }
    let internet = Internet::new();
    let mut daemon = Daemon::start(&internet, By { user: ORDINARY, bridge: true });
    let Answer::Timed(timed) = daemon.ask(&Command::TimeStarts) else { panic!("times") };
    let Timed { made_ahead, not_made_ahead, first_on_bridge, next_on_bridge } = timed;
    let mut table = format!(
        "\n\nWhat a network adds to a start with none, by an ordinary user (goal with one made ahead: 15 ms)\n\n{:<32}{:>8}{:>12}{:>12}{:>12}\n",
        "NETWORK", "STARTS", "P50", "P95", "MAX"
    );
    for (what, mut took) in [
        ("user, made ahead", made_ahead),
        ("user, not made ahead", not_made_ahead),
        ("bridge, the first machine on it", first_on_bridge),
        ("bridge, another machine", next_on_bridge),
    ] {
        took.sort_unstable();
        let [p50, p95, max] = [50, 95, 100].map(|percent| milliseconds(&took, percent));
        table += &format!("{what:<32}{:>8}{p50:>9.1} ms{p95:>9.1} ms{max:>9.1} ms\n", took.len());
    }
    print(&table);
}

/// A percentile by nearest rank.
fn milliseconds(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100) - 1].as_secs_f64() * 1000.0
}

#[test]
#[ignore = "a benchmark: scripts/bench-network.sh runs it"]
fn traffic_with_and_without_a_policy() {
    if crate::skipped() {
        return;
    }
    let internet = Internet::new();
    let server = bulk::Server::start(internet.outside());
    let rules = traffic::rules();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    print(&format!(
        "\n\nTraffic of a guest with `open` and no rules, and with `allow` and {} rules, medians of {TURNS} turns\n(goal: at most 10 % slower with rules; by name, `allow` means the proxy)\n",
        rules.len()
    ));
    let head = ["MEASURED", "OPEN", "ALLOW", "RATIO", "FAILED TURNS"].map(str::to_owned);
    print(&row(&head));
    for rows in [&TRAFFIC[..], &TOLD_APART] {
        let mut daemon = Daemon::start(&internet, ORDINARY);
        let guest = daemon.started();
        for traffic in rows {
            print(&compared(traffic, &rules, &guest, &mut daemon));
        }
        drop(guest);
        daemon.done(&Command::Stop);
    }
    drop(server);
}

/// Has the guest do it with each policy in turns.
fn compared(traffic: &Traffic, rules: &[&str], guest: &Started, daemon: &mut Daemon) -> String {
    let mut rates = [Vec::new(), Vec::new()];
    let mut failed = [0, 0];
    for turn in 0..=TURNS {
        // Neither is always the first.
        for policy in [turn % 2, 1 - turn % 2] {
            match policy {
                0 => daemon.policy(Mode::Open, &[]),
                _ => daemon.policy(Mode::Allow, rules),
            }
            match traffic.rate(guest) {
                Ok(rate) if turn > 0 => rates[policy].push(rate),
                Ok(_) => {}
                Err(_) => failed[policy] += 1,
            }
        }
    }
    let [open, allow] = rates.map(median);
    let [ours, theirs] = [allow, open].map(|rate| format!("{rate:.0} {}", traffic.unit()));
    let ratio = format!("{:.2}", allow / open);
    let failed = failed.map(|turns| turns.to_string()).join(", ");
    row(&[traffic.what.to_owned(), theirs, ours, ratio, failed])
}

fn row([what, open, allow, ratio, failed]: &[String; 5]) -> String {
    format!("{what:<42}{open:>12}{allow:>12}{ratio:>8}{failed:>14}")
}

/// Not a number where there are none.
fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
}
