//! The server name in the first bytes of a TLS connection.

use std::io;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::egress::DnsName;

/// How long a client may take for its greeting. TLS clients speak first, and at once.
const DEADLINE: Duration = Duration::from_secs(10);

/// The longest greeting. With the largest keys known it takes a few thousand bytes.
const MAX_GREETING: usize = 64 << 10;

/// How much is read at a time.
const CHUNK: usize = 4096;

/// What a client said first.
pub(super) struct Greeting {
    /// The server that it wants. `None`: this is no TLS, or it names no server that is a full host name.
    pub(super) name: Option<DnsName>,
    /// All bytes that were read, which the server has to get.
    pub(super) bytes: Vec<u8>,
}

/// Reads until the greeting is whole, or until it is clear that there is none: other bytes, too many, or
/// none for too long.
///
/// # Errors
/// When the client ends before that.
pub(super) async fn read(client: &mut TcpStream) -> io::Result<Greeting> {
    let deadline = Instant::now() + DEADLINE;
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::new();
    while bytes.len() < MAX_GREETING {
        let mut chunk = [0; CHUNK];
        let Ok(length) = timeout_at(deadline, client.read(&mut chunk)).await else {
            break;
        };
        let chunk = &chunk[..length?];
        if chunk.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(chunk);
        match hear(&mut acceptor, chunk) {
            Progress::More => {}
            Progress::Whole(name) => return Ok(Greeting { name, bytes }),
            Progress::NoTls => break,
        }
    }
    Ok(Greeting { name: None, bytes })
}

enum Progress {
    More,
    Whole(Option<DnsName>),
    NoTls,
}

fn hear(acceptor: &mut Acceptor, mut chunk: &[u8]) -> Progress {
    while !chunk.is_empty() {
        // Taking nothing would be without end: its buffer is full.
        if !acceptor.read_tls(&mut chunk).is_ok_and(|taken| taken > 0) {
            return Progress::NoTls;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                return Progress::Whole(hello.server_name().and_then(|name| name.parse().ok()));
            }
            Err(_) => return Progress::NoTls,
        }
    }
    Progress::More
}
