//! Reaching a guest's port: over a Unix socket with the text handshake of `vhost-device-vsock` and
//! Firecracker, or over AF_VSOCK.

use std::io;
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_vsock::{VsockAddr, VsockStream};

use crate::process::ShortFolder;
use crate::wire::guest::PORT;

/// The longest answer to `CONNECT`: `OK ` and a number.
const MAX_ANSWER: usize = 32;

/// How a guest is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dial {
    /// Through a Unix socket that takes `CONNECT <port>\n` and answers `OK <port>\n`.
    Unix {
        /// The folder of the socket; it may have any length.
        folder: PathBuf,
        /// The socket's name in it.
        socket: String,
    },
    /// Through the kernel's vsock.
    Vsock {
        /// The guest's context id.
        cid: u32,
    },
}

/// A connection to a guest.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection to a guest, of either sort.
pub type Stream = Box<dyn Transport>;

impl Dial {
    /// Connects to the agent's port. The caller bounds the time.
    ///
    /// # Errors
    /// When nobody listens there, or not yet.
    pub async fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Unix { folder, socket } => {
                let folder = ShortFolder::open(folder)?;
                let mut stream = UnixStream::connect(folder.path_of(socket)).await?;
                ask(&mut stream).await?;
                Ok(Box::new(stream))
            }
            Self::Vsock { cid } => {
                Ok(Box::new(VsockStream::connect(VsockAddr::new(*cid, PORT)).await?))
            }
        }
    }
}

/// The text handshake. The answer is read byte by byte: what follows it is the agent's.
async fn ask(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(format!("CONNECT {PORT}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    while answer.last() != Some(&b'\n') && answer.len() < MAX_ANSWER {
        answer.push(stream.read_u8().await?);
    }
    if answer.starts_with(b"OK ") && answer.ends_with(b"\n") {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(&answer).trim_end().escape_debug().to_string();
    Err(io::Error::new(
        io::ErrorKind::ConnectionRefused,
        format!("the vsock device answered `{answer}`"),
    ))
}
