//! A server of the benchmark of traffic: gives and takes many bytes, on a plain port and on that of TLS.
//!
//! A client sends one letter and a number of 8 bytes. `d`: it is sent so many bytes. `u`: it sends so many,
//! and gets one when all have come. It is always the server that closes: not every uplink passes on the end
//! of one direction alone. A greeting of TLS before the letter is read and left alone.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::internet::{BULK, Namespace};

/// A port of no meaning. Like all ports that are used here, it is below 1024: pasta refuses a connection to a
/// port that it can bind itself, and in the test's host it can bind every address.
pub(super) const PLAIN: u16 = 81;

/// The port of TLS.
pub(super) const TLS: u16 = 443;

/// How long a stream may stand still: everything is on one machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// Bytes that are given to the kernel at a time.
const CHUNK: usize = 128 << 10;

/// It serves until it is dropped.
pub(super) struct Server<'a> {
    namespace: &'a Namespace,
    listeners: Vec<(u16, JoinHandle<()>)>,
}

impl<'a> Server<'a> {
    /// At [`BULK`], which it gives to the namespace.
    pub(super) fn start(namespace: &'a Namespace) -> Self {
        namespace.ip(&format!("address add {BULK}/32 dev lo"));
        let listeners = [PLAIN, TLS].map(|port| {
            let listener = namespace.enter(move || TcpListener::bind((BULK, port)).expect("free"));
            let listener = listener.join().expect("no panic");
            (port, std::thread::spawn(move || serve(&listener)))
        });
        Self { namespace, listeners: listeners.into() }
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        for (port, thread) in self.listeners.drain(..) {
            let end = self.namespace.enter(move || {
                TcpStream::connect((BULK, port))
                    .and_then(|mut stream| stream.write_all(&ask('q', 0)))
            });
            if matches!(end.join(), Ok(Ok(()))) {
                drop(thread.join());
            }
        }
    }
}

/// What a client sends first.
pub(super) fn ask(what: char, count: u64) -> [u8; 9] {
    let mut bytes = [0; 9];
    bytes[0] = u8::try_from(what).expect("a letter");
    bytes[1..].copy_from_slice(&count.to_be_bytes());
    bytes
}

/// Takes so many bytes from a stream, and nothing else.
pub(super) fn take(stream: &mut TcpStream, mut count: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while count > 0 {
        let most = usize::try_from(count).unwrap_or(CHUNK).min(CHUNK);
        match stream.read(&mut buffer[..most])? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => count -= length as u64,
        }
    }
    Ok(())
}

/// Gives so many bytes to a stream.
pub(super) fn give(stream: &mut TcpStream, mut count: u64) -> std::io::Result<()> {
    let buffer = vec![b'x'; CHUNK];
    while count > 0 {
        let length = usize::try_from(count).unwrap_or(CHUNK).min(CHUNK);
        stream.write_all(&buffer[..length])?;
        count -= length as u64;
    }
    Ok(())
}

/// Answers every client in a thread of its own: one that stalls holds up nobody.
fn serve(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        let Ok(asked) = asked(&mut stream) else { continue };
        match asked {
            (b'q', _) => return,
            // A client that goes away is the client's failure.
            (what, count) => drop(std::thread::spawn(move || answer(&mut stream, what, count))),
        }
    }
}

/// The letter and the number.
fn asked(stream: &mut TcpStream) -> std::io::Result<(u8, u64)> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut first = [0; 9];
    stream.read_exact(&mut first[..5])?;
    if first[0] == 22 {
        take(stream, u16::from_be_bytes([first[3], first[4]]).into())?;
        stream.read_exact(&mut first[..5])?;
    }
    stream.read_exact(&mut first[5..])?;
    Ok((first[0], u64::from_be_bytes(*first.last_chunk().expect("9 bytes"))))
}

fn answer(stream: &mut TcpStream, what: u8, count: u64) -> std::io::Result<()> {
    match what {
        b'd' => give(stream, count),
        _ => {
            take(stream, count)?;
            stream.write_all(b"!")
        }
    }
}
