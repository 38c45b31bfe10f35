//! The reader of disks: a process that holds one disk, read only, and can do nothing but read it and say what
//! is on it.
//!
//! ```text
//!  the daemon ── coved read-disk VM HOME PATH ──▶ the jail closes ── first byte of the disk is read
//!      ▲          (stdin: the disk)                       │
//!      └──────── stdout: frames, as a guest's agent says them at a copy ◀────┘
//! ```
//!
//! The disk is a guest's, and so hostile; whoever takes the reader over by it has a descriptor that can be
//! read, one that leads to the daemon, and no more. What it says is taken as what guests say: the daemon
//! passes it on, and the client unpacks it as hostile ([`archive`](crate::archive)).

mod error;
mod ext4;
mod jail;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::Encoder as _;

use self::error::ReadError;
use self::ext4::{Ext4, Kind};
use crate::archive::{ArchiveError, PieceSink, PieceWriter};
use crate::report::with_causes;
use crate::wire::frame::{Frame, FrameCodec};
use crate::wire::guest::{CopyKind, Reply, Skipped, place_of};

pub(super) use jail::{ADDRESS_SPACE, PROCESSOR_SECONDS, WHOLE};

/// The first argument that turns `coved` into the reader.
pub const ARGUMENT: &str = "read-disk";

/// How much of a stream is in one frame, in bytes.
const PIECE: usize = 256 * 1024;

/// What is wanted of a disk.
#[derive(Debug)]
struct Wanted {
    /// The name of its VM, for messages.
    vm: String,
    home: PathBuf,
    path: String,
}

/// The reader: a disk on stdin, frames on stdout, an accident on stderr. Called first thing in `main`, before
/// any thread is started.
#[expect(clippy::print_stderr, reason = "stderr is how this process tells its parent why")]
#[must_use]
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match run(arguments, io::stdin().as_fd(), io::stdout().as_fd()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(
    arguments: impl Iterator<Item = OsString>,
    disk: impl AsFd,
    output: impl AsFd,
) -> Result<(), Box<dyn std::error::Error>> {
    crate::process::close_all_but_standard()?;
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let Ok([vm, home, path]) = <[String; 3]>::try_from(words) else {
        return Err("usage: coved read-disk VM HOME PATH <DISK".into());
    };
    let wanted = Wanted { vm, home: home.into(), path };
    let disk = File::from(disk.as_fd().try_clone_to_owned()?);
    let output = File::from(output.as_fd().try_clone_to_owned()?);
    jail::enter()?;
    Ok(tell(&wanted, disk, output)?)
}

/// Says what is at a path on a disk, or why not.
///
/// # Errors
/// When nobody listens.
fn tell(wanted: &Wanted, disk: File, output: impl Write) -> io::Result<()> {
    let mut frames = Frames(output);
    let last = match copy(wanted, disk, &mut frames) {
        Ok(skipped) => {
            frames.say(Frame::DataEnd)?;
            Reply::Copied(skipped)
        }
        Err(ReadError::Copy(ArchiveError::Stream(error))) => return Err(error),
        Err(error) => error.reply(&wanted.vm),
    };
    frames.say(Frame::control(&last)?)
}

fn copy(
    wanted: &Wanted,
    disk: File,
    frames: &mut Frames<impl Write>,
) -> Result<Skipped, ReadError> {
    let system = Ext4::open(disk)?;
    let path = place_of(&wanted.home, &wanted.path);
    let what = walk::find(&system, &wanted.home, &path)?;
    let kind = match what.kind {
        Kind::File => CopyKind::File,
        Kind::Folder => CopyKind::Folder,
        Kind::Link => CopyKind::Link,
        Kind::Special => return Err(ArchiveError::Special { path }.into()),
    };
    let begun = Frame::control(&Reply::Copying { kind }).and_then(|begun| frames.say(begun));
    begun.map_err(ArchiveError::Stream)?;
    tree::pack(&system, Path::new(&path), &what, PieceWriter::new(frames, PIECE))
}

/// Frames on their way out, and the pieces of a stream as data frames.
struct Frames<Output>(Output);

impl<Output: Write> Frames<Output> {
    fn say(&mut self, frame: Frame) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        FrameCodec::default().encode(frame, &mut bytes)?;
        self.0.write_all(&bytes)
    }
}

impl<Output: Write> PieceSink for &mut Frames<Output> {
    fn send(&mut self, piece: Bytes) -> io::Result<()> {
        self.say(Frame::Data(piece))
    }
}
