//! Who may ask on the port of the loopback, in raw HTTP.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpStream;

use super::{Served, exchange};
use crate::report::{Explain as _, Kind};
use crate::rpc::server::{Limits, Loopback};

const PING: &str = r#"{"jsonrpc": "2.0", "id": 1, "method": "daemon.ping"}"#;

struct Port {
    /// Keeps the server.
    _served: Served,
    address: SocketAddr,
    token: String,
}

impl Port {
    async fn open(folder: &Path) -> Self {
        let path = folder.join("token");
        let any = "127.0.0.1:0".parse().expect("an address");
        let loopback = Loopback::listen(any, &path).await.expect("listens");
        let address = loopback.address();
        let token = std::fs::read_to_string(path).expect("a token");
        Self { _served: Served::within(Limits::default(), Some(loopback)), address, token }
    }

    /// The status of the answer to a ping with these headers.
    async fn ask(&self, headers: &[String]) -> u16 {
        let stream = TcpStream::connect(self.address).await.expect("connects");
        let headers = headers.join("\r\n");
        let length = PING.len();
        let request = format!(
            "POST / HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n{headers}\r\n\r\n{PING}"
        );
        let (status, body) = exchange(stream, &request).await;
        assert_eq!(status == 200, body.contains("version"), "{body}");
        assert!(!body.contains(&self.token), "no answer shows the token");
        status
    }

    fn host(&self) -> String {
        format!("Host: {}", self.address)
    }

    fn shown(&self) -> String {
        format!("Authorization: Bearer {}", self.token)
    }
}

#[tokio::test]
async fn only_the_token_opens_the_port() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = Port::open(folder.path()).await;
    assert_eq!(port.ask(&[port.host(), port.shown()]).await, 200);
    let lower = port.shown().replace("Bearer", "bearer");
    assert_eq!(port.ask(&[port.host(), lower]).await, 200);
    let other = port.token.chars().rev().collect::<String>();
    for wrong in [
        "X-Nothing: 1".to_owned(),
        format!("Authorization: Bearer {other}"),
        format!("Authorization: Bearer {}0", port.token),
        format!("Authorization: Bearer {}", &port.token[1..]),
        "Authorization: Bearer ".to_owned(),
        format!("Authorization: Basic {}", port.token),
        format!("Authorization: {}", port.token),
        format!("Cookie: token={}", port.token),
        format!("{}\r\n{}", port.shown(), port.shown()),
    ] {
        assert_eq!(port.ask(&[port.host(), wrong.clone()]).await, 401, "{wrong}");
    }
}

#[tokio::test]
async fn only_names_of_the_loopback_are_hosts() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = Port::open(folder.path()).await;
    let number = port.address.port();
    for host in
        [format!("localhost:{number}"), format!("LOCALHOST:{number}"), format!("[::1]:{number}")]
    {
        let status = port.ask(&[format!("Host: {host}"), port.shown()]).await;
        assert_eq!(status, 200, "{host}");
    }
    for host in [
        format!("attacker.example:{number}"),
        format!("127.0.0.1.attacker.example:{number}"),
        format!("localhost.:{number}"),
        "localhost".to_owned(),
        format!("localhost:{}", number ^ 1),
        format!("0.0.0.0:{number}"),
        String::new(),
    ] {
        let status = port.ask(&[format!("Host: {host}"), port.shown()]).await;
        assert_eq!(status, 403, "{host}");
    }
    assert_eq!(port.ask(&[port.shown()]).await, 403, "no host at all");
    assert_eq!(port.ask(&[port.host(), port.host(), port.shown()]).await, 403, "two hosts");
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = Port::open(folder.path()).await;
    let address = port.address;
    let own = format!("Origin: http://{address}");
    assert_eq!(port.ask(&[port.host(), own, port.shown()]).await, 200);
    for origin in [
        "http://attacker.example".to_owned(),
        "null".to_owned(),
        String::new(),
        format!("https://{address}"),
        format!("http://localhost:{}", address.port()),
        format!("http://{address}.attacker.example"),
        "http://127.0.0.1".to_owned(),
    ] {
        let status = port.ask(&[port.host(), format!("Origin: {origin}"), port.shown()]).await;
        assert_eq!(status, 403, "{origin}");
    }
}

#[tokio::test]
async fn websockets_and_byte_streams_need_the_token_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = Port::open(folder.path()).await;
    let websocket = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (path, upgrade, answered) in
        [("/", "websocket", 101), (&*format!("/stream/{}", "0".repeat(64)), "cove-stream", 404)]
    {
        for (shown, status) in [("X-Nothing: 1".to_owned(), 401), (port.shown(), answered)] {
            let stream = TcpStream::connect(port.address).await.expect("connects");
            let host = port.host();
            let request = format!(
                "GET {path} HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\
                 {websocket}\r\n{shown}\r\n\r\n"
            );
            assert_eq!(first_status(stream, &request).await, status, "{path} {shown}");
        }
    }
}

/// The status of an answer after which the connection may stay open.
async fn first_status(mut stream: TcpStream, request: &str) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.expect("an answer");
    let line = String::from_utf8_lossy(&line);
    line.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status")
}

#[tokio::test]
async fn whoever_fills_the_port_does_not_fill_the_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let any = "127.0.0.1:0".parse().expect("an address");
    let loopback = Loopback::listen(any, &folder.path().join("token")).await.expect("listens");
    let address = loopback.address();
    let limits = Limits { loopback: 2, ..Limits::default() };
    let served = Served::within(limits, Some(loopback));
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(TcpStream::connect(address).await.expect("connects"));
    }
    let one_more = TcpStream::connect(address).await.expect("connects");
    let request = super::request(PING);
    assert_eq!(exchange(one_more, &request).await.0, 429);
    assert_eq!(served.exchange(&request).await.0, 200);
    // Whoever shows no token is not kept, either.
    let mut stranger = held.pop().expect("two");
    let kept = request.replace("close", "keep-alive");
    assert_eq!(exchange(&mut stranger, &kept).await.0, 403, "and the connection is closed");
}

#[tokio::test]
async fn other_addresses_are_never_listened_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let address = address.parse().expect("an address");
        let refused = Loopback::listen(address, &path).await.expect_err("refused");
        assert_eq!(refused.kind(), Kind::Failed);
    }
    assert!(!path.exists(), "no token is made for them");
}
