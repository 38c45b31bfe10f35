//! Connections that are cut, daemons that are killed and disks that are full at random moments of a prepare, an
//! export and a copy: both sides stay whole, the error says what happened, and the next try works.
//!
//! ```text
//!  ready ─▶ the command begins ─▶ a random moment of the time that it takes uncut: the cut ─▶ it ends
//!    ▲                                                                                         │
//!    └──── the next try, now and then ◀── both sides are the old ones or the new ones, whole ◀──┘
//! ```
//!
//! The moments come from a seed that is printed. A cut that comes when its command has ended does not count, and
//! is tried again.

mod copy;
mod export;
mod line;
mod prepare;
mod random;
mod said;

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use self::line::Line;
use self::random::Random;
use self::said::Said;
use crate::harness::{QUICK, Ran, Running, Who, World};
use crate::watch;

/// The machine's name: messages must have it.
const VM: &str = "studio";

/// So many cuts must have struck.
const ENOUGH: u32 = 100;

/// So many bytes are left free at least, of which the command itself may need some.
const LEAST: u64 = 64 << 10;

/// How long all of it may take: whoever runs the tests kills them after 15 minutes, and nothing is cleaned up then.
const BUDGET: Duration = Duration::from_secs(12 * 60);

/// No cut comes in the first part of so many of what a command takes: it has only just begun.
const BEGINNING: u32 = 10;

/// One try in so many that were cut is followed by one that is not.
const TRY_AGAIN: u64 = 6;

/// How long a guest, which may have few processors to itself, goes on with what it had got whole when the cut came.
const SETTLED: Duration = Duration::from_secs(120);

/// How a command is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    /// `cove` is killed.
    Client,
    /// `cove` gets what Ctrl-C sends.
    Interrupt,
    /// The connections between the daemon and the guest are cut.
    Line,
    /// The daemon is killed.
    Daemon,
    /// The guest's disk has room for a part only.
    Disk,
    /// The guest's disk is full from some moment on.
    Full,
}

impl Cut {
    /// With which status a command may end that it has struck, as the README says.
    fn statuses(self) -> &'static [i32] {
        match self {
            Self::Client => &[1000 + Signal::SIGKILL as i32],
            // Before it listens, it ends as any program does.
            Self::Interrupt => &[130, 1000 + Signal::SIGINT as i32],
            Self::Line | Self::Disk => &[1],
            // The patch is whole, but nobody has written down that it was exported.
            Self::Daemon => &[5, 1],
            // What needs no room in the guest works all the same.
            Self::Full => &[0, 1],
        }
    }
}

/// What a command left, on the side to which something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All as it was.
    Old,
    /// All of what was to come.
    New,
}

/// A command that is cut again and again.
trait Operation {
    /// What it is called in messages of the test.
    fn name(&self) -> &'static str;

    /// How often each cut is to strike it.
    fn cuts(&self) -> &'static [(Cut, u32)];

    /// How many bytes it writes in the guest, where it does.
    fn bytes(&self) -> u64;

    /// Gives it something to do, unless that is still to be done, and returns its arguments.
    fn ready(&mut self, bench: &mut Bench) -> Vec<String>;

    /// Asserts, when it has ended, that nothing is half on either side, and nothing left over. `cut` is none when it
    /// ended by itself.
    fn settle(&mut self, bench: &mut Bench, cut: Option<Cut>) -> Outcome;
}

/// A world with a machine, and the means to cut what goes on there.
struct Bench {
    world: World,
    line: Line,
    random: Random,
    said: Said,
    begun: Instant,
}

// As the caller only: who runs it makes no difference to what a cut leaves, and it takes minutes.
#[test]
fn nothing_is_half_done_wherever_a_command_is_cut() {
    let begun = Instant::now();
    let world = World::new(Who::Caller);
    let vm = world.start(VM, &["--disk", "1G"]);
    let line = Line::lay(&world.vm_folder(&vm));
    let (random, said) = (Random::seeded(), Said::default());
    let mut bench = Bench { world, line, random, said, begun };
    let mut prepare = prepare::Prepare::of(&bench);
    bench.cut_all(&mut prepare);
    prepare.end(&bench.world);
    let mut export = export::Export::of(&bench, &prepare.source);
    bench.cut_all(&mut export);
    export.nobody_reads(&mut bench);
    for way in copy::Way::ALL {
        bench.cut_all(&mut copy::Copying::of(&bench, way));
    }
    prepare.nobody_hears_of_the_first(&bench.world);
    bench.said.show();
    assert!(bench.said.total() >= ENOUGH, "{} cuts struck", bench.said.total());
    bench.line.lift();
    bench.world.finish();
}

impl Bench {
    /// Cuts an operation as often as it is to be.
    fn cut_all(&mut self, operation: &mut dyn Operation) {
        // The first one may have more to do than the others.
        self.uncut(operation);
        let mut took = self.uncut(operation);
        for (cut, times) in operation.cuts().iter().copied() {
            let mut tries = 0;
            while self.said.times(operation.name(), cut) < times {
                tries += 1;
                assert!(tries <= 3 * times + 5, "{}: {cut:?} comes too late", operation.name());
                let (name, after) = (operation.name(), self.begun.elapsed());
                assert!(after < BUDGET, "{name}: the cuts are not done after {after:?}");
                self.cut(operation, cut, took);
                if tries == 1 || self.random.below(TRY_AGAIN) == 0 {
                    // The first one may have been slow, and cuts must not come too late.
                    took = took.min(self.uncut(operation));
                }
            }
        }
    }

    /// The operation works when nothing is cut. Returns what it took.
    fn uncut(&mut self, operation: &mut dyn Operation) -> Duration {
        let arguments = operation.ready(self);
        let begun = Instant::now();
        self.world.cove(&arguments).success();
        let took = begun.elapsed();
        let outcome = operation.settle(self, None);
        assert_eq!(outcome, Outcome::New, "{}: {arguments:?}", operation.name());
        took
    }

    /// Cuts it once.
    fn cut(&mut self, operation: &mut dyn Operation, cut: Cut, took: Duration) {
        let arguments = operation.ready(self);
        let daemon = self.world.json(["daemon", "status", "--json"])["pid"].clone();
        match cut {
            Cut::Client | Cut::Interrupt | Cut::Line | Cut::Daemon => {}
            Cut::Disk => {
                fill(&self.world, LEAST + self.random.below(operation.bytes() * 9 / 10));
            }
            Cut::Full => fill(&self.world, LEAST),
        }
        let running = self.world.command(&arguments).deadline(QUICK).spawn();
        let beginning = took / BEGINNING;
        let moment = beginning + self.random.moment(took - beginning);
        let struck = self.strike(cut, moment, &running, &daemon);
        let ran = running.wait();
        if cut == Cut::Disk {
            guest(&self.world, "rm /root/filler");
        }
        let outcome = operation.settle(self, Some(cut));
        if cut == Cut::Full {
            guest(&self.world, "rm /root/filler");
        }
        let is_withstood = struck > 0 && cut.statuses().contains(&0);
        match ran.status {
            0 => {
                assert_eq!(outcome, Outcome::New, "{}: {}", operation.name(), ran.told());
                match is_withstood {
                    true => self.said.struck(operation.name(), cut, &ran, VM),
                    // It had ended by then, as it does uncut.
                    false => self.said.late(),
                }
            }
            _ => {
                assert!(struck > 0, "{} failed uncut: {}", operation.name(), ran.told());
                self.said.struck(operation.name(), cut, &ran, VM);
            }
        }
    }

    /// Waits for the moment, and cuts. Returns how much was there to be cut.
    fn strike(&self, cut: Cut, moment: Duration, running: &Running, daemon: &Value) -> usize {
        // It may have ended.
        let signal = |signal| kill(Pid::from_raw(running.pid()), signal).unwrap_or_default();
        match cut {
            Cut::Client | Cut::Interrupt | Cut::Line | Cut::Daemon => std::thread::sleep(moment),
            Cut::Disk => {}
            // Taking the rest takes a moment, too.
            Cut::Full => std::thread::sleep(moment / 2),
        }
        match cut {
            Cut::Client => signal(Signal::SIGKILL),
            Cut::Interrupt => signal(Signal::SIGINT),
            Cut::Line => return self.cut_line(running.pid()),
            Cut::Daemon => {
                let pid = daemon.as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
                watch::end(pid);
                watch::gone(pid);
            }
            Cut::Disk => {}
            Cut::Full => {
                fill_up(&self.world);
                return usize::from(runs(running.pid()));
            }
        }
        1
    }

    /// Cuts the connections to the guest; where there is none at the moment, the next one, unless the command ends.
    /// Returns how many there were.
    fn cut_line(&self, pid: i32) -> usize {
        while runs(pid) {
            match self.line.cut() {
                0 => std::thread::sleep(Duration::from_millis(1)),
                count => return count,
            }
        }
        0
    }
}

/// Whether a process is there.
fn runs(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Runs a shell script in the guest's home, whatever lies there.
fn inside(world: &World, script: &str) -> Ran {
    world.cove(["exec", VM, "--cwd", "/root", "--", "sh", "-c", script])
}

/// The same; it must succeed. Returns its stdout.
#[track_caller]
fn guest(world: &World, script: &str) -> String {
    inside(world, script).success().stdout
}

/// Leaves so many bytes free on the guest's work disk. How many there are to be had it does not say: it keeps some to
/// itself. So all are taken, and these given back.
fn fill(world: &World, room: u64) {
    let script = format!(
        "sync; at=0; for size in 67108864 4194304 262144 16384; do \
         while fallocate -o $at -l $size /root/filler 2>/dev/null; do at=$((at + size)); done; \
         done; truncate -s $((at - {room})) /root/filler && sync"
    );
    guest(world, &script);
}

/// Takes what [`fill`] has left free, to the last block.
fn fill_up(world: &World) {
    let script = "cat /dev/zero 2>/dev/null >>/root/filler; \
                  if mkdir /root/more 2>/dev/null; then rmdir /root/more; echo 'there is room'; fi";
    assert_eq!(guest(world, script), "", "the guest's disk is not full");
}
