//! Standard input and output as bounded queues, so that a slow reader or writer slows the guest down
//! instead of filling memory, and never holds up signals.
//!
//! Each has a thread of its own, because reads and writes of terminals, files and pipes block. The
//! thread that reads stdin is left behind at the end of the process: nothing can call it back.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{Fuse, FusedFuture as _};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::{mpsc, oneshot};

/// How many chunks wait in a queue. A chunk is one read of stdin, or one frame (512 KiB at most).
const QUEUED_CHUNKS: usize = 4;

/// How much of stdin is read at once, in bytes: a pipe's whole buffer.
pub(super) const CHUNK: usize = 64 * 1024;

/// Reads stdin from now on; the queue ends with stdin.
///
/// # Errors
/// When no thread can be made.
pub(super) fn read_stdin() -> io::Result<mpsc::Receiver<Bytes>> {
    let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
    // Started without a stdin, or with one that breaks: the same as its end.
    if let Ok(stdin) = io::stdin().as_fd().try_clone_to_owned() {
        let mut stdin = File::from(stdin);
        let read = move || {
            while let Ok(Some(chunk)) = next_chunk(&mut stdin) {
                if sender.blocking_send(chunk).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("stdin".to_owned()).spawn(read)?;
    }
    Ok(receiver)
}

fn next_chunk(file: &mut File) -> io::Result<Option<Bytes>> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(length) => {
                chunk.truncate(length);
                return Ok(Some(chunk.into()));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_for(file, PollFlags::POLLIN)?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// One of the two outputs. Chunks are written in the order in which they were given.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Bytes>,
    ended: Fuse<oneshot::Receiver<io::Result<()>>>,
}

impl Writer {
    /// Writes stdout from now on.
    ///
    /// # Errors
    /// When there is no stdout, or no thread can be made.
    pub(super) fn stdout() -> io::Result<Self> {
        Self::to("stdout", io::stdout().as_fd().try_clone_to_owned()?)
    }

    /// Writes stderr from now on.
    ///
    /// # Errors
    /// When there is no stderr, or no thread can be made.
    pub(super) fn stderr() -> io::Result<Self> {
        Self::to("stderr", io::stderr().as_fd().try_clone_to_owned()?)
    }

    fn to(name: &str, descriptor: OwnedFd) -> io::Result<Self> {
        let (queue, mut chunks) = mpsc::channel::<Bytes>(QUEUED_CHUNKS);
        let (end, ended) = oneshot::channel();
        let mut file = File::from(descriptor);
        let write = move || {
            let mut written = Ok(());
            while let Some(chunk) = chunks.blocking_recv() {
                written = write_all(&mut file, &chunk);
                if written.is_err() {
                    break;
                }
            }
            // The command has ended already when nobody waits.
            end.send(written).ok();
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(write)?;
        let ended = ended.fuse();
        Ok(Self { queue, ended })
    }

    /// Queues a chunk; waits while the queue is full.
    ///
    /// # Errors
    /// Why an earlier chunk could not be written.
    pub(super) async fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        match self.queue.send(chunk).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Waits until writing fails, which may be never, and is told once. Cancel-safe.
    pub(super) async fn failure(&mut self) -> io::Error {
        match (&mut self.ended).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => io::Error::other("its writer is gone"),
        }
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// Why it could not be written, unless that has been told.
    pub(super) async fn finish(self) -> io::Result<()> {
        drop(self.queue);
        if self.ended.is_terminated() {
            return Ok(());
        }
        self.ended.await.unwrap_or(Ok(()))
    }
}

fn write_all(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another program on the same terminal or pipe may have made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_for(file, PollFlags::POLLOUT)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_for(file: &File, what: PollFlags) -> io::Result<()> {
    let mut wanted = [PollFd::new(file.as_fd(), what)];
    match poll(&mut wanted, PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
