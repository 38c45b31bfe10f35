//! Who answers in the small internet: HTTP, a sink for datagrams, a name server, each counting.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use cove::task::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::{NAMES, Namespace, Place};

/// What has arrived: where, at which address, of which kind.
pub(super) type Counts = Arc<Mutex<HashMap<(Place, Ipv4Addr, &'static str), usize>>>;

/// The listeners of one namespace.
#[derive(Debug)]
pub(super) struct Server {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl Server {
    pub(super) fn start(
        namespace: &Namespace,
        place: Place,
        addresses: &[Ipv4Addr],
        dns: Option<Ipv4Addr>,
        counts: &Counts,
    ) -> Self {
        let (addresses, counts) = (addresses.to_vec(), Arc::clone(counts));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (ready, wait) = std::sync::mpsc::sync_channel(1);
        let thread = namespace.enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let tasks = Tasks::default();
                for address in addresses {
                    let count = Count { counts: Arc::clone(&counts), place, address };
                    listen(&tasks, count).expect("a fresh namespace has its ports free");
                }
                if let Some(address) = dns {
                    let count = Count { counts, place, address };
                    let socket = udp(address, 53).expect("port 53 is free");
                    drop(tasks.spawn("dns", answer_names(socket, count)));
                }
                ready.send(()).expect("somebody waits");
                stopped.cancelled().await;
            });
        });
        wait.recv().expect("the listeners come up");
        Self { stop, thread: Some(thread) }
    }
}

#[derive(Clone)]
struct Count {
    counts: Counts,
    place: Place,
    address: Ipv4Addr,
}

impl Count {
    fn one(&self, kind: &'static str) {
        let mut counts = self.counts.lock().expect("no listener panicked");
        *counts.entry((self.place, self.address, kind)).or_default() += 1;
    }
}

fn udp(address: Ipv4Addr, port: u16) -> io::Result<tokio::net::UdpSocket> {
    let socket = UdpSocket::bind((address, port))?;
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket)
}

fn listen(tasks: &Tasks, count: Count) -> io::Result<()> {
    let http = TcpListener::bind((count.address, 80))?;
    http.set_nonblocking(true)?;
    let http = tokio::net::TcpListener::from_std(http)?;
    let tls = TcpListener::bind((count.address, 443))?;
    tls.set_nonblocking(true)?;
    let tls = tokio::net::TcpListener::from_std(tls)?;
    let sinks = [(udp(count.address, 9)?, "udp"), (udp(count.address, 443)?, "quic")];
    let (inner, counted) = (tasks.clone(), count.clone());
    drop(tasks.spawn("http", async move {
        while let Ok((stream, peer)) = http.accept().await {
            counted.one("http");
            drop(inner.spawn("request", answer_http(stream, peer, counted.address)));
        }
    }));
    let (inner, counted) = (tasks.clone(), count.clone());
    drop(tasks.spawn("tls", async move {
        while let Ok((stream, _)) = tls.accept().await {
            counted.one("tls");
            drop(inner.spawn("greeting", answer_greeting(stream, counted.address)));
        }
    }));
    for (sink, kind) in sinks {
        let count = count.clone();
        drop(tasks.spawn("udp", async move {
            let mut datagram = vec![0; 65536];
            while sink.recv_from(&mut datagram).await.is_ok() {
                count.one(kind);
            }
        }));
    }
    Ok(())
}

/// No TLS: says how many bytes came first, and then how many came after that.
async fn answer_greeting(mut stream: tokio::net::TcpStream, address: Ipv4Addr) -> io::Result<()> {
    let mut bytes = vec![0; 65536];
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(format!("{address} heard {count}\n").as_bytes()).await?;
    }
}

/// `GET /bytes/N` gives N bytes; a POST says how many bytes came; anything else says who answered whom.
async fn answer_http(
    mut stream: tokio::net::TcpStream,
    peer: SocketAddr,
    address: Ipv4Addr,
) -> io::Result<()> {
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if head.len() > 64 * 1024 || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).to_lowercase();
    let after = |key: &str| {
        let rest = text.split_once(key)?.1;
        rest.split_whitespace().next()?.parse::<usize>().ok()
    };
    let body = if let Some(count) = after("get /bytes/") {
        vec![b'x'; count]
    } else if let Some(length) = after("content-length:") {
        if text.contains("100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let mut rest = (&mut stream).take(length.saturating_sub(head.len() - end) as u64);
        let came = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        format!("received {}\n", came as usize + head.len() - end).into_bytes()
    } else {
        format!("{address} answers {}\n", peer.ip()).into_bytes()
    };
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

/// A name server that knows a few names.
async fn answer_names(socket: tokio::net::UdpSocket, count: Count) {
    let mut query = [0; 512];
    while let Ok((length, peer)) = socket.recv_from(&mut query).await {
        count.one("dns");
        if let Some(answer) = name_answer(&query[..length]) {
            drop(socket.send_to(&answer, peer).await);
        }
    }
}

fn name_answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    let mut at = 12;
    while *query.get(at)? != 0 {
        let label = usize::from(query[at]);
        name.push(String::from_utf8_lossy(query.get(at + 1..=at + label)?).to_lowercase());
        at += label + 1;
    }
    let question = query.get(12..at + 5)?;
    let is_a = question.get(question.len() - 4..)? == [0, 1, 0, 1];
    let name = name.join(".");
    let known = NAMES.iter().find(|(known, _, _)| *known == name);
    let (_, addresses, seconds) = known.copied().unwrap_or_default();
    let addresses = if is_a { addresses } else { &[] };
    let mut answer = query[..2].to_vec();
    // An answer; NXDOMAIN when not known.
    answer.extend([0x81, if known.is_some() { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, u8::try_from(addresses.len()).ok()?, 0, 0, 0, 0]);
    answer.extend(question);
    for address in addresses {
        // The name as a pointer to the question, type A, class IN, seconds, 4 bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, seconds, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
