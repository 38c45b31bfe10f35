//! A benchmark: how fast the host's resolver answers for our zone, beside a bare hickory server.
//!
//! Both answer for the same zone, each in a process of its own with the same kind of runtime; one client
//! asks them in turns. Nothing is asserted about time. `scripts/bench-network.sh` builds the bare server
//! (`tests/names-floor`), which has to lie where cargo puts it, and runs this.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use super::super::host::{Clients, HostResolver};
use super::*;

/// VMs in the zone.
const VMS: u8 = 100;

/// Questions that a server is asked at a turn.
const QUESTIONS: usize = 2000;

/// Turns of each server, after one that does not count.
const TURNS: usize = 41;

/// Everything is on one machine.
const ANSWER_TIME: Duration = Duration::from_secs(10);

const ZONE: &str = "cove.internal";

/// The zone's name and its records, a line each, and an empty line.
fn zone_as_text() -> String {
    let vms = (1..=VMS).map(|vm| format!("vm-{vm}.{ZONE}. 10.9.0.{vm}\n"));
    format!("{ZONE}.\n{}\n", vms.collect::<String>())
}

/// A server in a process of its own, which ends when this is dropped.
struct Server {
    process: Child,
    stdin: Option<ChildStdin>,
    /// Open, so that it can say its last words.
    _said: Lines<BufReader<ChildStdout>>,
    client: UdpSocket,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "the two servers of this benchmark")]
    fn start(program: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| {
            panic!("{}: {error}; scripts/bench-network.sh builds it", program.display())
        });
        let mut stdin = process.stdin.take().expect("piped");
        stdin.write_all(zone_as_text().as_bytes()).expect("it reads");
        let mut said = BufReader::new(process.stdout.take().expect("piped")).lines();
        // The test harness writes lines of its own.
        let address = said.by_ref().map_while(Result::ok).find_map(|line| line.parse().ok());
        let address: SocketAddr = address.expect("it says where it listens");
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        client.connect(address).expect("connected");
        client.set_read_timeout(Some(ANSWER_TIME)).expect("set");
        Self { process, stdin: Some(stdin), _said: said, client }
    }

    /// Asks all questions, `flight` at a time, and looks at the answers. How long that took.
    fn ask(&self, questions: &[Vec<u8>], flight: usize, wanted: (ResponseCode, u16)) -> Duration {
        let mut buffer = [0; 4096];
        let began = Instant::now();
        let mut asked = questions.iter();
        for question in asked.by_ref().take(flight) {
            self.client.send(question).expect("sent");
        }
        for _ in questions {
            let length = self.client.recv(&mut buffer).expect("an answer");
            let head = buffer[..length].first_chunk::<12>().expect("a header");
            let found =
                (ResponseCode::from_low(head[3] & 0xf), u16::from_be_bytes([head[6], head[7]]));
            assert_eq!(found, wanted);
            if let Some(question) = asked.next() {
                self.client.send(question).expect("sent");
            }
        }
        began.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        drop(self.process.wait());
    }
}

#[test]
#[ignore = "not a test: the benchmark beside it runs it as the resolver's process"]
fn resolver_of_the_benchmark() {
    let mut lines = std::io::stdin().lines();
    let mut next = || lines.next().transpose().expect("a line").unwrap_or_default();
    let apex: DnsName = next().trim_end_matches('.').parse().expect("a name");
    let mut zone = Zone::new(apex, 1);
    while let Some((name, address)) = next().split_once(' ') {
        let (vm, _) = name.split_once('.').expect("a name in the zone");
        let addresses = vec![address.parse().expect("an address")];
        zone.add(&vm.parse().expect("a VM's name"), addresses).expect("a name");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (tasks, (_zone, seen)) = (Tasks::default(), watch::channel(Arc::new(zone)));
    runtime.block_on(async {
        let loopback = (Ipv4Addr::LOCALHOST, 0).into();
        let resolver = HostResolver::bind(
            loopback,
            Clients { ranges: vec![], upstream: Upstream::new(vec![]) },
        )
        .await
        .expect("bound");
        let address = resolver.address().expect("bound");
        resolver.serve(seen, &tasks);
        writeln!(std::io::stdout(), "\n{address}").expect("somebody reads");
    });
    lines.for_each(drop);
}

/// As systemd-resolved asks.
fn questions(name: impl Fn(usize) -> String) -> Vec<Vec<u8>> {
    let numbered = (0..QUESTIONS).map(|number| {
        let mut message = question(&name(number), RecordType::A, Some(1232));
        message.metadata.id = u16::try_from(number).expect("few");
        message.to_vec().expect("a message")
    });
    numbered.collect()
}

#[test]
#[ignore = "a benchmark: scripts/bench-network.sh runs it"]
fn answers_for_our_zone_beside_a_bare_hickory_server() {
    let this = std::env::current_exe().expect("this program");
    let folder = this.parent().and_then(Path::parent).expect("target/release/deps");
    let floor = Server::start(&folder.join("cove-names-floor"), &[]);
    let resolver = "net::names::tests::measure::resolver_of_the_benchmark";
    let cove = Server::start(&this, &["--exact", resolver, "--ignored", "--nocapture"]);

    let known = questions(|number| format!("vm-{}.{ZONE}", number % usize::from(VMS) + 1));
    let unknown = questions(|number| format!("nobody-{}.{ZONE}", number % usize::from(VMS) + 1));
    let mut rows = format!(
        "\n\nAnswers for our zone, per second: medians of {} turns of {QUESTIONS} questions each\n\n{:<34}{:>10}{:>16}{:>16}\n",
        TURNS - 1,
        "MEASURED",
        "COVE",
        "BARE HICKORY",
        "TIMES SLOWER"
    );
    for (what, asked, wanted) in [
        ("address of a VM", &known, (ResponseCode::NoError, 1)),
        ("no such VM", &unknown, (ResponseCode::NXDomain, 0)),
    ] {
        for flight in [1, 32] {
            let turns = (0..TURNS).map(|turn| {
                // Neither is always the first.
                if turn % 2 == 0 {
                    let ours = cove.ask(asked, flight, wanted);
                    (ours, floor.ask(asked, flight, wanted))
                } else {
                    let theirs = floor.ask(asked, flight, wanted);
                    (cove.ask(asked, flight, wanted), theirs)
                }
            });
            let (ours, theirs): (Vec<_>, Vec<_>) = turns.skip(1).unzip();
            let [ours, theirs] = [ours, theirs].map(|times| QUESTIONS as f64 / median(times));
            let what = format!("{what}, {flight} in flight");
            let slower = theirs / ours;
            rows += &format!("{what:<34}{ours:>10.0}{theirs:>16.0}{slower:>16.2}\n");
        }
    }
    writeln!(std::io::stdout(), "{rows}").expect("written");
}

/// In seconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}
