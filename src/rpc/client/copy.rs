//! Copies of files and trees, out of guests and into them, as tar streams.
//!
//! ```text
//!  out:  kind ──▶ into_stream ──▶ thread: OutStream, read ──▶ Ending::told
//!  in:            into_stream ──▶ thread: InStream, written ──▶ into_copy ──▶ finish
//! ```
//!
//! Packing and unpacking is the caller's: what comes out of a guest is made by a guest, and hostile. It is done by
//! threads that have the connection for themselves, where each byte is copied once.

mod stream;

use std::io;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;

pub use self::stream::{Cut, Ending, InStream, OutStream};

use super::{ByteStream, Client};
use crate::line::Patience;
use crate::report::{FULL_DISK, Kind, Report};
use crate::wire::frame::Frame;
use crate::wire::guest::{CopyDirection, CopyFailure, CopyKind, Incoming, Reply};
use crate::wire::rpc::{CopyVm, VmCopy};

/// How long the guest may take for its next word, or to take more bytes: it may be emulated, its disk busy.
const STALL: Duration = Duration::from_secs(120);

/// How long it may take to put all of it onto its disk and into its place.
const FINISH: Duration = Duration::from_secs(600);

/// [`STALL`], for a thread that has the connection for itself.
const PATIENCE: Patience = Patience { pause: STALL, whom: "guest" };

/// How much is taken of a text of the guest's, in characters.
const MAX_TEXT: usize = 4096;

/// Who says what comes from the other side: the guest or, for one that does not run, whoever reads its disk.
const OTHER_SIDE: &str = "the VM";

/// A copy out of a guest. Dropping it ends it.
#[derive(Debug)]
pub struct CopyOut(ByteStream);

/// A copy into a guest. Dropped before [`CopyIn::finish`], the guest throws away what it got.
#[derive(Debug)]
pub struct CopyIn(ByteStream);

impl Client {
    /// Begins a copy of what is at `path` in a VM: in its guest, or on its disk while it is at rest.
    ///
    /// # Errors
    /// When the VM neither runs nor is at rest, or the daemon cannot be reached.
    pub async fn copy_out(&self, vm: &str, path: &str) -> Result<CopyOut, Report> {
        Ok(CopyOut(self.open_copy(vm, path, CopyDirection::Out).await?))
    }

    /// Begins a copy to `path` in a VM.
    ///
    /// # Errors
    /// When the VM does not run, or the daemon cannot be reached.
    pub async fn copy_in(
        &self,
        vm: &str,
        path: &str,
        incoming: Incoming,
    ) -> Result<CopyIn, Report> {
        Ok(CopyIn(self.open_copy(vm, path, CopyDirection::In(incoming)).await?))
    }

    async fn open_copy(
        &self,
        vm: &str,
        path: &str,
        direction: CopyDirection,
    ) -> Result<ByteStream, Report> {
        let wanted = CopyVm { vm: vm.to_owned(), path: path.to_owned(), direction };
        let ticket = self.call::<VmCopy>(wanted).await?;
        self.open_stream(&ticket).await
    }
}

impl CopyOut {
    /// What it is that comes. To be asked first, and once.
    ///
    /// # Errors
    /// Of kind `not_found` when there is no such thing; also when the guest cannot read it or does not answer.
    pub async fn kind(&mut self) -> Result<CopyKind, Report> {
        let Reply::Copying { kind } = reply(&mut self.0, STALL).await? else {
            return Err(out_of_turn());
        };
        Ok(kind)
    }

    /// The tar stream that comes now, for a thread, and how it ends.
    ///
    /// # Errors
    /// When the connection is none any more.
    pub fn into_stream(self) -> Result<(OutStream, Ending), Report> {
        OutStream::of(self.0)
    }
}

impl CopyIn {
    /// The tar stream that goes now, for a thread, and the way to end that early.
    ///
    /// # Errors
    /// When the connection is none any more.
    pub fn into_stream(self) -> Result<(InStream, Cut), Report> {
        InStream::of(self.0)
    }

    /// Ends the stream and waits until the copy is in its place.
    ///
    /// # Errors
    /// When the guest could not make it. When the connection breaks off, nobody knows whether it did.
    pub async fn finish(mut self) -> Result<(), Report> {
        self.send_frame(Frame::DataEnd).await?;
        let Reply::Copied(_) = reply(&mut self.0, FINISH).await? else {
            return Err(out_of_turn());
        };
        Ok(())
    }

    async fn send_frame(&mut self, frame: Frame) -> Result<(), Report> {
        let sent = {
            let (mut sink, mut stream) = (&mut self.0).split();
            timeout(STALL, async {
                // Nothing is said before the end but that it failed; then the rest is not sent.
                tokio::select! {
                    said = stream.next() => Err(said),
                    sent = sink.send(frame) => Ok(sent),
                }
            })
            .await
        };
        let said_early = match sent.map_err(|_| silent(STALL))? {
            Ok(Ok(())) => return Ok(()),
            // It may have said why before the connection was closed.
            Ok(Err(error)) => match timeout(STALL, self.0.next()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_)) | None) | Err(_) => return Err(broken(&error)),
            },
            Err(said) => heard(said)?,
        };
        said(&said_early)?;
        Err(out_of_turn())
    }
}

/// A failure of a copy on either side, with its cause.
#[must_use]
pub fn copy_failed(reason: CopyFailure, side: &str, cause: String) -> Report {
    let (kind, hint) = match reason {
        CopyFailure::NotFound => (Kind::NotFound, None),
        CopyFailure::InTheWay => {
            (Kind::Conflict, Some("give the copy another name, or remove first what is there"))
        }
        CopyFailure::Invalid => (Kind::Invalid, None),
        CopyFailure::NoRoom => (Kind::Failed, Some(FULL_DISK)),
        // What to do about it is in the message.
        CopyFailure::NotNow => (Kind::Conflict, None),
        CopyFailure::Other => (Kind::Failed, None),
    };
    let report = Report::new(kind, format!("{side}: {cause}"));
    match hint {
        Some(hint) => report.with_hint(hint),
        None => report,
    }
}

async fn reply(stream: &mut ByteStream, deadline: Duration) -> Result<Reply, Report> {
    said(&frame(stream, deadline).await?)
}

async fn frame(stream: &mut ByteStream, deadline: Duration) -> Result<Frame, Report> {
    heard(timeout(deadline, stream.next()).await.map_err(|_| silent(deadline))?)
}

fn heard(said: Option<io::Result<Frame>>) -> Result<Frame, Report> {
    let said = said.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
    said.map_err(|error| broken(&error))
}

/// What the other side says; that it failed is an error.
fn said(frame: &Frame) -> Result<Reply, Report> {
    match frame.message().map_err(|error| out_of_turn().with_cause(&error))? {
        Reply::CopyFailed { reason, message } => Err(copy_failed(reason, OTHER_SIDE, cut(message))),
        Reply::Failed { step, message } => {
            Err(copy_failed(CopyFailure::Other, OTHER_SIDE, cut(format!("{step}: {message}"))))
        }
        said => Ok(said),
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn broken(error: &io::Error) -> Report {
    let message = "the stream of the copy ended before the copy did";
    Report::new(Kind::Unreachable, message)
        .with_cause(error)
        .with_hint("see `cove list` for the VM's state, and copy again")
}

fn silent(deadline: Duration) -> Report {
    let message = format!("the guest did not go on with the copy within {} s", deadline.as_secs());
    Report::new(Kind::TimedOut, message)
        .with_hint("the guest may be busy or stopped: look at `cove stats`, then at `cove logs`")
}

fn out_of_turn() -> Report {
    Report::new(Kind::Failed, "the guest's agent sent a message out of turn")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use bytes::Bytes;
    use tokio::net::UnixStream;
    use tokio_util::codec::Framed;

    use super::*;
    use crate::wire::frame::{FrameCodec, MAX_PAYLOAD};
    use crate::wire::guest::Skipped;

    fn pair() -> (ByteStream, ByteStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (Framed::new(ours, FrameCodec::default()), Framed::new(theirs, FrameCodec::default()))
    }

    fn say(reply: &Reply) -> Frame {
        Frame::control(reply).expect("fits")
    }

    fn data(text: &'static str) -> Frame {
        Frame::Data(Bytes::from_static(text.as_bytes()))
    }

    fn failure(reason: CopyFailure) -> Reply {
        Reply::CopyFailed { reason, message: "because".to_owned() }
    }

    /// What comes out of a guest that says this and closes.
    async fn out(frames: Vec<Frame>) -> Result<(Vec<u8>, Skipped), Report> {
        let (ours, mut theirs) = pair();
        for frame in frames {
            theirs.send(frame).await.expect("sent");
        }
        drop(theirs);
        let mut copy = CopyOut(ours);
        assert_eq!(copy.kind().await?, CopyKind::File);
        let (stream, mut ending) = copy.into_stream()?;
        let (told, read) = tokio::join!(ending.told(), read(stream));
        assert_eq!(told.is_ok(), read.is_ok());
        Ok((read.unwrap_or_default(), told?.expect("it was read to its end")))
    }

    async fn read(mut stream: OutStream) -> io::Result<Vec<u8>> {
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            stream.reader().read_to_end(&mut bytes).map(|_| bytes)
        });
        reading.await.expect("no panic")
    }

    /// Writes until the stream has enough.
    async fn fill(mut stream: InStream) -> InStream {
        let filling = tokio::task::spawn_blocking(move || {
            let mut writer = stream.writer();
            // Whether a frame still fits is the kernel's to say.
            while writer.write_all(&[0; MAX_PAYLOAD]).is_ok() {}
            drop(writer);
            stream
        });
        filling.await.expect("no panic")
    }

    async fn write(copy: CopyIn, bytes: &'static [u8]) -> CopyIn {
        let (mut stream, _cut) = copy.into_stream().expect("a socket");
        let writing = tokio::task::spawn_blocking(move || {
            let mut writer = stream.writer();
            writer.write_all(bytes).and_then(|()| writer.flush()).expect("written");
            drop(writer);
            stream
        });
        writing.await.expect("no panic").into_copy().expect("all was written")
    }

    #[tokio::test]
    async fn what_comes_out_is_whole_or_an_error() {
        let copying = || say(&Reply::Copying { kind: CopyKind::File });
        let skipped = Skipped { count: 2, first: Some("/dev/null".to_owned()) };
        let end = || say(&Reply::Copied(skipped.clone()));
        let whole = out(vec![copying(), data("a"), data("b"), Frame::DataEnd, end()]).await;
        assert_eq!(whole, Ok((b"ab".to_vec(), skipped.clone())));
        let failed = || say(&Reply::Failed { step: "read".to_owned(), message: "no".to_owned() });
        for (frames, kind) in [
            (vec![], Kind::Unreachable),
            (vec![copying(), data("a")], Kind::Unreachable),
            (vec![copying(), data("a"), Frame::DataEnd], Kind::Unreachable),
            (vec![copying(), data("a"), end()], Kind::Failed),
            (vec![data("a")], Kind::Failed),
            (vec![copying(), data("a"), failed()], Kind::Failed),
            (vec![say(&failure(CopyFailure::NotFound))], Kind::NotFound),
            (vec![copying(), say(&failure(CopyFailure::Invalid))], Kind::Invalid),
            (vec![say(&failure(CopyFailure::NotNow))], Kind::Conflict),
        ] {
            let report = out(frames).await.expect_err("not whole");
            assert_eq!(report.kind, kind, "{report:?}");
        }
    }

    #[tokio::test]
    async fn a_guest_has_no_more_than_some_words() {
        let message = "ä".repeat(100_000);
        let long = Reply::CopyFailed { reason: CopyFailure::Other, message };
        let report = out(vec![say(&long)]).await.expect_err("failed");
        assert_eq!(report.message, format!("the VM: {}…", "ä".repeat(MAX_TEXT)));
    }

    #[tokio::test]
    async fn a_guest_that_gives_up_early_says_why() {
        let (ours, mut theirs) = pair();
        theirs.send(say(&failure(CopyFailure::NoRoom))).await.expect("sent");
        drop(theirs);
        let (stream, _cut) = CopyIn(ours).into_stream().expect("a socket");
        let report = fill(stream).await.into_copy().expect_err("it has given up");
        assert_eq!((report.kind, report.hint.as_deref()), (Kind::Failed, Some(FULL_DISK)));
        assert_eq!(report.message, "the VM: because");
    }

    #[tokio::test]
    async fn a_stream_that_is_cut_ends_on_both_ways() {
        let (ours, theirs) = pair();
        let (stream, mut ending) = CopyOut(ours).into_stream().expect("a socket");
        let cut = async {
            tokio::task::yield_now().await;
            ending.cut();
            ending.told().await
        };
        let (told, read) = tokio::join!(cut, read(stream));
        assert_eq!(told.expect_err("it was cut").kind, Kind::Unreachable);
        read.expect_err("it was cut");
        drop(theirs);

        let (ours, theirs) = pair();
        let (stream, cut) = CopyIn(ours).into_stream().expect("a socket");
        let (filled, ()) = tokio::join!(fill(stream), async {
            tokio::task::yield_now().await;
            cut.cut();
        });
        assert_eq!(filled.into_copy().expect_err("it was cut").kind, Kind::Unreachable);
        drop(theirs);
    }

    #[tokio::test]
    async fn what_was_cut_is_not_whole_though_all_of_it_had_come() {
        let (ours, mut theirs) = pair();
        let copied = say(&Reply::Copied(Skipped::default()));
        for frame in [data("all"), Frame::DataEnd, copied] {
            theirs.send(frame).await.expect("sent");
        }
        let (stream, mut ending) = CopyOut(ours).into_stream().expect("a socket");
        ending.cut();
        read(stream).await.expect_err("it was cut");
        assert_eq!(ending.told().await.expect_err("it was cut").kind, Kind::Unreachable);
    }

    #[tokio::test]
    async fn a_reader_that_has_enough_leaves_nothing_to_tell() {
        let (ours, theirs) = pair();
        let (stream, mut ending) = CopyOut(ours).into_stream().expect("a socket");
        drop(stream);
        assert_eq!(ending.told().await, Ok(None));
        drop(theirs);
    }

    #[tokio::test]
    async fn a_copy_into_a_guest_ends_with_its_word() {
        for (last, kind) in [
            (Some(Reply::Copied(Skipped::default())), None),
            (Some(failure(CopyFailure::InTheWay)), Some(Kind::Conflict)),
            (Some(Reply::Done), Some(Kind::Failed)),
            (None, Some(Kind::Unreachable)),
        ] {
            let (ours, mut theirs) = pair();
            let copy = write(CopyIn(ours), b"abc").await;
            let guest = async {
                let mut got = Vec::new();
                while got.last() != Some(&Frame::DataEnd) {
                    got.push(theirs.next().await.expect("a frame").expect("sound"));
                }
                if let Some(last) = last {
                    theirs.send(say(&last)).await.expect("sent");
                }
                drop(theirs);
                got
            };
            let (finished, got) = tokio::join!(copy.finish(), guest);
            assert_eq!(finished.err().map(|report| report.kind), kind);
            assert_eq!(got, [data("abc"), Frame::DataEnd]);
        }
    }
}
