//! `cove cp`: files and trees out of a VM, and into one that runs.
//!
//! ```text
//!  out of it:  thread: stream ──▶ unpack, sync, rename
//!  into it:    thread: pack ──▶ stream ──▶ the guest does the same
//! ```
//!
//! The tar stream is made and unpacked here, with the user's own rights; what comes out of a guest is hostile
//! ([`archive`](crate::archive)). Whatever ends a copy early, the destination is as it was.

mod end;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;

use crate::archive::{ArchiveError, Bits, LargeFiles, Limits, Place, Source, Staging, unpack};
use crate::report::{Kind, Report, counted};
use crate::rpc::client::{Client, copy_failed};
use crate::wire::guest::{CopyKind, Incoming, Skipped};
use crate::wire::rpc::{DaemonPing, Nothing};

use self::end::End;
use super::connect::connect;
use super::failure::{Failure, add_hint};
use super::output::{one_line, say};
use super::progress::Transfer;
use super::signals::Signals;

/// How long a copy may take to reach the disk and its place once all of it is there.
const SETTLE: Duration = Duration::from_secs(600);

/// How long the user who has interrupted it waits until it is cleared away, or hears why it takes longer.
const CLEAR: Duration = Duration::from_secs(10);

/// How long a daemon that is there may take to say so.
const ANSWER: Duration = Duration::from_secs(5);

/// What is said then.
const CLEARING: &str =
    "clearing away what has come; interrupted again, that is left to the next copy to there";

/// What is known when the guest does not say how it ended.
const SENT: &str = "all of it was sent: see there whether the copy is in its place";

/// Arguments of `cove cp`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to copy: VM:PATH, or a path here; relative in a VM means to its home
    #[arg(value_name = "SRC")]
    source: OsString,
    /// Where to: VM:PATH, or a path here; into it if it is a folder, otherwise to that name
    #[arg(value_name = "DST")]
    destination: OsString,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let names = Names { source: shown(&self.source), destination: shown(&self.destination) };
        let mut signals = Signals::listen()?;
        let skipped = match (End::read(&self.source)?, End::read(&self.destination)?) {
            (End::Guest { vm, path }, End::Here(place)) => {
                out(&vm, &path, place, &names, &mut signals).await?
            }
            (End::Here(source), End::Guest { vm, path }) => {
                into(source, &vm, &path, &names, &mut signals).await?
            }
            (End::Here(_), End::Here(_)) => {
                let Names { source, destination } = names;
                let message = format!("neither `{source}` nor `{destination}` is in a VM");
                let hint = "write the one that is as VM:PATH, such as `web:notes.txt`";
                return Err(Report::new(Kind::Invalid, message).with_hint(hint).into());
            }
            (End::Guest { .. }, End::Guest { .. }) => {
                let Names { source, destination } = names;
                let message = format!("both `{source}` and `{destination}` are in VMs");
                let hint = "copy it here, and then into the other VM; a path here with a colon in \
                            its name is written `./a:b`";
                return Err(Report::new(Kind::Invalid, message).with_hint(hint).into());
            }
        };
        tell(&skipped);
        Ok(0)
    }
}

/// Copies what is at a path in a VM to a place here.
async fn out(
    vm: &str,
    path: &str,
    destination: PathBuf,
    names: &Names,
    signals: &mut Signals,
) -> Result<Skipped, Failure> {
    let own_name = Path::new(path).file_name().filter(|name| *name != "~").map(OsStr::to_owned);
    let find = move || Place::find(&destination, own_name.as_deref());
    let place = settled(tokio::task::spawn_blocking(find)).await;
    let place = place.map_err(|error| names.failed(error))?;
    let client = signals.unless_interrupted(connect()).await?;
    let mut copy = signals.unless_interrupted(client.copy_out(vm, path)).await?;
    let kind = signals.unless_interrupted(copy.kind()).await;
    let kind = match kind {
        Ok(kind) => kind,
        Err(failure) => return Err(names.in_failure(blamed(&client, failure).await)),
    };
    let (mut stream, mut ending) = copy.into_stream().map_err(|report| names.untouched(report))?;
    let transfer = Transfer::begin(&names.source);
    let unpacking = tokio::task::spawn_blocking(move || {
        take(&place, kind, Counted { stream: stream.reader(), transfer })
    });
    let told = signals.unless_interrupted(ending.told()).await;
    let unpacked = match &told {
        Err(Failure::Interrupted) => {
            ending.cut();
            cleared(unpacking, signals.interruption()).await
        }
        Ok(_) | Err(Failure::Report(_) | Failure::StdoutClosed) => settled(unpacking).await,
    };
    match (told, unpacked) {
        (Ok(skipped), Ok(())) => Ok(skipped.unwrap_or_default()),
        // What was interrupted too late is in its place.
        (Err(Failure::Interrupted), Ok(())) => Ok(ending.told().await?.unwrap_or_default()),
        (Err(failure), _) => Err(names.in_failure(blamed(&client, failure).await)),
        (Ok(_), Err(error)) => Err(names.failed(error).into()),
    }
}

/// A stream whose bytes are shown.
struct Counted<Stream> {
    stream: Stream,
    transfer: Transfer,
}

impl<Stream: Read> Read for Counted<Stream> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(into)?;
        self.transfer.add(length);
        Ok(length)
    }
}

impl<Stream: Write> Write for Counted<Stream> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.stream.write(bytes)?;
        self.transfer.add(length);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Unpacks what comes, and puts it in its place. Blocks.
fn take(place: &Place, kind: CopyKind, stream: impl Read) -> Result<(), ArchiveError> {
    place.admit(kind)?;
    let staging = Staging::make(|| Ok(place.parent()));
    let staging = staging.map_err(|source| place.unwritable(source))?;
    let limits = Limits::default().with_room_of(staging.folder());
    unpack(staging.folder(), stream, Bits::Permissions, limits, LargeFiles::Direct)?;
    place.publish(&staging)
}

/// Copies what is at a path here to a place in a VM.
async fn into(
    path: PathBuf,
    vm: &str,
    destination: &str,
    names: &Names,
    signals: &mut Signals,
) -> Result<Skipped, Failure> {
    let open = move || Source::open(&path).map(|source| (own_name(&path), source));
    let opened = settled(tokio::task::spawn_blocking(open)).await;
    let (name, source) = opened.map_err(|error| names.failed(error))?;
    let client = signals.unless_interrupted(connect()).await?;
    let incoming = Incoming { name, kind: source.kind() };
    let copy = signals.unless_interrupted(client.copy_in(vm, destination, incoming)).await?;
    let (mut stream, cut) = copy.into_stream().map_err(|report| names.untouched(report))?;
    let transfer = Transfer::begin(&names.source);
    let mut packing = tokio::task::spawn_blocking(move || {
        let packed = source.pack(Counted { stream: stream.writer(), transfer }, LargeFiles::Cached);
        Ok((stream, packed))
    });
    let packed = match signals.unless_interrupted(async { Ok((&mut packing).await) }).await {
        Ok(packed) => flat(packed),
        Err(failure) => {
            cut.cut();
            settled_within(CLEAR, packing).await.ok();
            return Err(names.in_failure(failure));
        }
    };
    let (stream, packed) = packed.map_err(|error| names.failed(error))?;
    let (copy, skipped) = match (stream.into_copy(), packed) {
        (Ok(copy), Ok(skipped)) => (copy, skipped),
        (Err(report), _) => return Err(names.in_failure(blamed(&client, report.into()).await)),
        (Ok(_), Err(error)) => return Err(names.failed(error).into()),
    };
    match signals.unless_interrupted(copy.finish()).await {
        Ok(()) => Ok(skipped),
        Err(failure) if is_unheard(&failure) => {
            Err(names.in_unheard_failure(blamed(&client, failure).await))
        }
        Err(failure) => Err(names.in_failure(failure)),
    }
}

/// Which connection of a copy was lost: its stream, which goes over both, does not say that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// The one to the daemon.
    ToDaemon,
    /// The one from there to the guest.
    ToGuest,
}

/// A failure, blamed on the way to the guest where a daemon is there that answers.
async fn blamed(client: &Client, failure: Failure) -> Failure {
    match failure {
        Failure::Report(report) if report.kind == Kind::Unreachable => {
            let answer = timeout(ANSWER, client.call::<DaemonPing>(Nothing {})).await;
            let lost = match answer {
                Ok(Ok(_)) => Lost::ToGuest,
                Ok(Err(_)) | Err(_) => Lost::ToDaemon,
            };
            of_lost(*report, lost).into()
        }
        failure @ (Failure::Report(_) | Failure::Interrupted | Failure::StdoutClosed) => failure,
    }
}

/// What is said of a stream that ended early.
fn of_lost(report: Report, lost: Lost) -> Report {
    let (kind, whom, hint) = match lost {
        Lost::ToDaemon => (
            Kind::Unreachable,
            "daemon",
            "see the daemon's log, and copy again; VMs go on without it",
        ),
        Lost::ToGuest => {
            (Kind::Failed, "guest", "see `cove list` for the VM's state, and copy again")
        }
    };
    let message = format!("the connection to the {whom} ended before the copy did");
    Report { kind, message, ..report }.with_hint(hint)
}

/// Whether nobody has heard how a copy ended of which all was sent.
fn is_unheard(failure: &Failure) -> bool {
    match failure {
        Failure::Report(report) => matches!(report.kind, Kind::Unreachable | Kind::TimedOut),
        Failure::Interrupted => true,
        Failure::StdoutClosed => false,
    }
}

/// The name of what is at a path; none where it has none that can be said.
fn own_name(path: &Path) -> Option<String> {
    match path.file_name() {
        Some(name) => name.to_str().map(str::to_owned),
        None => path.canonicalize().ok()?.file_name()?.to_str().map(str::to_owned),
    }
}

/// Waits for what blocks to come to its end.
async fn settled<T>(work: JoinHandle<Result<T, ArchiveError>>) -> Result<T, ArchiveError> {
    settled_within(SETTLE, work).await
}

/// Waits until what came of an interrupted copy is cleared away, or the user has had `enough` of that too.
async fn cleared<T>(
    work: JoinHandle<Result<T, ArchiveError>>,
    enough: impl Future,
) -> Result<T, ArchiveError> {
    let mut work = std::pin::pin!(settled(work));
    let clearing = async {
        if let Ok(done) = timeout(CLEAR, &mut work).await {
            return done;
        }
        say(CLEARING);
        work.await
    };
    tokio::select! {
        // Neither is resumed after the other has completed, so nothing needs to be cancel-safe here.
        done = clearing => done,
        _ = enough => Err(ArchiveError::Stream(io::ErrorKind::Interrupted.into())),
    }
}

async fn settled_within<T>(
    patience: Duration,
    work: JoinHandle<Result<T, ArchiveError>>,
) -> Result<T, ArchiveError> {
    match timeout(patience, work).await {
        Ok(done) => flat(done),
        Err(_) => Err(ArchiveError::Stream(io::ErrorKind::TimedOut.into())),
    }
}

/// What a thread has done.
fn flat<T>(done: Result<Result<T, ArchiveError>, JoinError>) -> Result<T, ArchiveError> {
    done.unwrap_or_else(|panicked| Err(ArchiveError::Stream(io::Error::other(panicked))))
}

/// The two ends, as the user wrote them.
struct Names {
    source: String,
    destination: String,
}

impl Names {
    /// A failure on this host.
    fn failed(&self, error: ArchiveError) -> Report {
        self.untouched(copy_failed(error.reason(), "this host", error.message()))
    }

    /// A failure on the way, or in the guest.
    fn in_failure(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Report(report) => self.untouched(*report).into(),
            Failure::Interrupted => {
                say(&one_line(&format!("interrupted: {}", self.as_it_was())));
                Failure::Interrupted
            }
            Failure::StdoutClosed => Failure::StdoutClosed,
        }
    }

    /// The same when all has been sent, and the guest has not said that nothing was changed.
    fn in_unheard_failure(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Report(report) => {
                let mut report = self.named(*report);
                add_hint(&mut report, SENT);
                report.into()
            }
            Failure::Interrupted => {
                say(&format!("interrupted, but {SENT}"));
                Failure::Interrupted
            }
            Failure::StdoutClosed => Failure::StdoutClosed,
        }
    }

    fn as_it_was(&self) -> String {
        format!("`{}` is as it was", self.destination)
    }

    fn untouched(&self, report: Report) -> Report {
        let mut report = self.named(report);
        add_hint(&mut report, &self.as_it_was());
        report
    }

    fn named(&self, report: Report) -> Report {
        report.behind(format!("cannot copy `{}` to `{}`", self.source, self.destination))
    }
}

/// Says what was left out.
fn tell(skipped: &Skipped) {
    let Some(first) = &skipped.first else { return };
    let what = counted(skipped.count, "special file");
    say(&format!("left out {what} (devices, sockets, pipes), first `{}`", one_line(first)));
}

fn shown(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// What clears for so many seconds.
    #[expect(clippy::disallowed_methods, reason = "stands for a thread that blocks")]
    fn clearing(seconds: u64) -> JoinHandle<Result<(), ArchiveError>> {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(())
        })
    }

    #[test]
    fn the_connection_that_was_lost_is_named() {
        for (lost, kind, named) in [
            (Lost::ToDaemon, Kind::Unreachable, "the connection to the daemon ended"),
            (Lost::ToGuest, Kind::Failed, "the connection to the guest ended"),
        ] {
            let ended = Report::new(Kind::Unreachable, "the stream ended").with_hint("copy again");
            let cause = io::Error::from(io::ErrorKind::UnexpectedEof);
            let report = of_lost(ended.with_cause(&cause), lost);
            assert_eq!((report.kind, report.cause.len()), (kind, 1));
            assert!(report.message.starts_with(named), "{report:?}");
        }
    }

    #[test]
    fn only_what_nobody_heard_of_may_be_in_its_place() {
        let ended = |kind| Failure::from(Report::new(kind, "it ended"));
        for kind in [Kind::Unreachable, Kind::TimedOut] {
            assert!(is_unheard(&ended(kind)), "{kind:?}");
        }
        for kind in [Kind::Failed, Kind::Conflict, Kind::NotFound, Kind::Invalid] {
            assert!(!is_unheard(&ended(kind)), "{kind:?}");
        }
        assert!(is_unheard(&Failure::Interrupted));
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupted_copy_is_cleared_away_until_the_user_has_enough() {
        for (seconds, is_cleared) in [(1, true), (60, true), (601, false)] {
            let done = cleared(clearing(seconds), pending::<()>()).await;
            assert_eq!(done.is_ok(), is_cleared, "{seconds}");
        }
        let later = tokio::time::sleep(Duration::from_secs(30));
        let left = cleared(clearing(60), later).await.expect_err("interrupted again");
        assert!(left.message().contains("interrupted"), "{}", left.message());
        let left = cleared(clearing(60), ready(())).await;
        assert!(left.is_err());
    }
}
