//! The kinds of traffic that are measured, and the policy that lets them out.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Instant;

use super::bulk::{self, DEADLINE, PLAIN, TLS, ask};
use crate::internet::{BULK, WEB};
use crate::names::hello;
use crate::network_daemon::Started;

/// Bytes of a stream.
const STREAM: u64 = 50_000_000;

/// Requests of a turn, each on a connection of its own.
const REQUESTS: usize = 400;

/// Names asked for in a turn.
const QUESTIONS: usize = 15;

/// The name of [`BULK`].
const BULK_NAME: &str = "bulk.cove-test.net";

/// The name of [`crate::internet::MOVABLE`], which no range of the policy allows.
const NAME: &str = "one.cove-test.net";

/// What is measured: one stream, or many short requests.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A stream that the guest reads from this port.
    Download(u16),
    /// A stream that the guest writes to this port.
    Upload(u16),
    /// Requests by HTTP, so many at a time.
    Http(usize),
    /// The same one at a time, to a name that is asked for each time.
    HttpByName,
    /// Short downloads from the port of TLS.
    Tls,
}

/// One row.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) what: &'static str,
    kind: Kind,
}

/// What the firewall lets through.
pub(super) const TRAFFIC: [Traffic; 5] = [
    Traffic { what: "TCP, guest reads", kind: Kind::Download(PLAIN) },
    Traffic { what: "TCP, guest writes", kind: Kind::Upload(PLAIN) },
    Traffic { what: "requests, 1 at a time", kind: Kind::Http(1) },
    Traffic { what: "requests, 8 at a time", kind: Kind::Http(8) },
    Traffic { what: "questions for a name, each with a request", kind: Kind::HttpByName },
];

/// What the proxy carries where names are told apart.
pub(super) const TOLD_APART: [Traffic; 3] = [
    Traffic { what: "port 443 by name, guest reads", kind: Kind::Download(TLS) },
    Traffic { what: "port 443 by name, guest writes", kind: Kind::Upload(TLS) },
    Traffic { what: "port 443 by name, requests", kind: Kind::Tls },
];

/// The rules of `allow`: what the traffic needs comes after many others.
pub(super) fn rules() -> Vec<String> {
    let others =
        (0..12).flat_map(|n| [format!("11.9.{n}.0/24:443"), format!("*.n{n}.cove-test.org")]);
    let needed = [
        format!("{BULK_NAME}:{TLS}"),
        format!("{NAME}:80"),
        format!("11.2.0.0/24:{PLAIN}"),
        "11.2.0.0/24:80".to_owned(),
    ];
    others.chain(needed).collect()
}

impl Traffic {
    /// What a rate is of.
    pub(super) fn unit(&self) -> &'static str {
        match self.kind {
            Kind::Download(_) | Kind::Upload(_) => "MB/s",
            Kind::Http(_) | Kind::HttpByName | Kind::Tls => "/s",
        }
    }

    /// Has the guest do it, and says how many of the unit it came to.
    ///
    /// # Errors
    /// When a connection is not answered whole.
    pub(super) fn rate(&self, guest: &Started) -> io::Result<f64> {
        let (kind, resolver) = (self.kind, guest.guest.resolver);
        if let Kind::Download(TLS) | Kind::Upload(TLS) | Kind::Tls = kind {
            // A policy begins without names.
            let resolved = guest.link.namespace.enter(move || address(resolver, BULK_NAME)).join();
            resolved.expect("no panic")?;
        }
        let work = move |count| {
            for _ in 0..count {
                match kind {
                    Kind::Download(port) => download((BULK, port).into(), STREAM)?,
                    Kind::Upload(port) => upload((BULK, port).into())?,
                    Kind::Http(_) => http(WEB)?,
                    Kind::HttpByName => http(address(resolver, NAME)?)?,
                    Kind::Tls => download((BULK, TLS).into(), 100)?,
                }
            }
            Ok::<_, io::Error>(())
        };
        let (many, at_a_time) = match kind {
            Kind::Download(_) | Kind::Upload(_) => (1, 1),
            Kind::Http(flight) => (REQUESTS, flight),
            Kind::HttpByName => (QUESTIONS, 1),
            Kind::Tls => (REQUESTS, 1),
        };
        let began = Instant::now();
        let threads: Vec<_> = (0..at_a_time)
            .map(|_| guest.link.namespace.enter(move || work(many / at_a_time)))
            .collect();
        for thread in threads {
            thread.join().expect("no panic")?;
        }
        let seconds = began.elapsed().as_secs_f64();
        Ok(match kind {
            Kind::Download(_) | Kind::Upload(_) => STREAM as f64 / 1e6 / seconds,
            Kind::Http(_) | Kind::HttpByName | Kind::Tls => many as f64 / seconds,
        })
    }
}

/// A connection of the guest. On the port of TLS it has greeted.
fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&server, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    if server.port() == TLS {
        stream.write_all(&hello(BULK_NAME))?;
    }
    Ok(stream)
}

fn download(server: SocketAddr, count: u64) -> io::Result<()> {
    let mut stream = connect(server)?;
    stream.write_all(&ask('d', count))?;
    bulk::take(&mut stream, count)?;
    ended(&mut stream)
}

fn upload(server: SocketAddr) -> io::Result<()> {
    let mut stream = connect(server)?;
    stream.write_all(&ask('u', STREAM))?;
    bulk::give(&mut stream, STREAM)?;
    bulk::take(&mut stream, 1)?;
    ended(&mut stream)
}

/// Waits until the server has closed the connection.
fn ended(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("more than was asked for")),
    }
}

fn http(server: Ipv4Addr) -> io::Result<()> {
    let mut stream = connect((server, 80).into())?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let whole =
        answer.starts_with("HTTP/1.1 200 ") && answer.contains(&format!("{server} answers"));
    if whole { Ok(()) } else { Err(io::Error::other(answer)) }
}

/// Asks the guest's resolver for the one address of a name.
fn address(resolver: Ipv4Addr, name: &str) -> io::Result<Ipv4Addr> {
    let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).expect("short"));
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.connect((resolver, 53))?;
    socket.send(&question)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    // One answer, whose data is the end of the message.
    match answer[..length].last_chunk::<4>() {
        Some(address) if answer[7] == 1 => Ok(Ipv4Addr::from(*address)),
        _ => Err(io::Error::other(format!("no address of `{name}`"))),
    }
}
