//! Real sockets on loopback, with greetings made by hand. Only the redirection is left out: the address
//! that a connection was meant for is a parameter here.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::{GreetingJudge, Proxy, original_destination, serve};
use crate::egress::DnsName;
use crate::net::names::Refused;
use crate::task::Tasks;

/// Where every client of these tests wanted to go.
const WANTED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 443);

fn wanted(_: &TcpStream) -> io::Result<SocketAddrV4> {
    Ok(WANTED)
}

/// A judge that allows one name, and lets connections go on up to an odd change.
#[derive(Default)]
struct OneName(Mutex<Vec<(SocketAddrV4, Option<String>)>>, watch::Sender<u64>);

impl GreetingJudge for OneName {
    fn may_greet(&self, address: SocketAddrV4, name: Option<&DnsName>) -> Result<(), Refused> {
        let name = name.map(ToString::to_string);
        let allowed = name.as_deref() == Some("good.example");
        self.0.lock().expect("sound").push((address, name));
        if allowed { Ok(()) } else { Err(Refused) }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.1.subscribe()
    }

    fn may_go_on(&self, address: SocketAddrV4, name: Option<&DnsName>) -> Result<(), Refused> {
        assert_eq!((address, name.map(DnsName::as_str)), (WANTED, Some("good.example")));
        if self.1.borrow().is_multiple_of(2) { Ok(()) } else { Err(Refused) }
    }
}

/// A proxy whose servers are all one, which the test is.
struct House {
    _tasks: Tasks,
    proxy: SocketAddr,
    server: TcpListener,
    judge: Arc<OneName>,
}

impl House {
    async fn new() -> Self {
        let tasks = Tasks::default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let proxy = listener.local_addr().expect("bound");
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let address = server.local_addr().expect("bound");
        let judge = Arc::new(OneName::default());
        let connect = move |wanted| {
            assert_eq!(wanted, WANTED);
            TcpStream::connect(address)
        };
        let proxied = Arc::clone(&judge);
        Proxy { judge: proxied, connect, destination: wanted, large_buffers: Semaphore::new(1) }
            .serve(listener, &tasks);
        Self { _tasks: tasks, proxy, server, judge }
    }

    async fn client(&self) -> TcpStream {
        TcpStream::connect(self.proxy).await.expect("connected")
    }

    fn judged(&self) -> Vec<(SocketAddrV4, Option<String>)> {
        self.judge.0.lock().expect("sound").clone()
    }
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    [&length[..], bytes].concat()
}

fn extension(kind: u16, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &counted(bytes)].concat()
}

/// The handshake message of a TLS 1.3 client, with extensions of its own (RFC 8446, section 4.1.2).
fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    let share = [&[0, 29][..], &counted(&[7; 32])].concat();
    let mut all = vec![
        extension(10, &counted(&[0, 29])),
        extension(13, &counted(&[4, 3, 8, 4])),
        extension(43, &[2, 3, 4]),
        extension(51, &counted(&share)),
    ];
    all.extend_from_slice(extensions);
    let mut body = vec![3, 3];
    body.extend([9; 32]);
    body.push(0);
    body.extend(counted(&[0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(counted(&all.concat()));
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[1][..], &length[1..], &body].concat()
}

/// The handshake in records of at most `size` bytes.
fn records(handshake: &[u8], size: usize) -> Vec<u8> {
    let records = handshake.chunks(size).map(|part| [&[22, 3, 1][..], &counted(part)].concat());
    records.collect::<Vec<_>>().concat()
}

fn server_name(name: &str) -> Vec<u8> {
    extension(0, &counted(&[&[0][..], &counted(name.as_bytes())].concat()))
}

/// Encrypted Client Hello, or noise in its place, which looks the same: the outer name counts.
fn encrypted_hello() -> Vec<u8> {
    let parts = [&[0, 0, 1, 0, 1, 7][..], &counted(&[5; 32]), &counted(&[6; 144])].concat();
    extension(0xfe0d, &parts)
}

fn greeting(name: &str) -> Vec<u8> {
    records(&hello(&[server_name(name)]), 16384)
}

/// The client was reset, not ended in order.
async fn assert_reset(client: &mut TcpStream) {
    let error = client.read(&mut [0; 16]).await.expect_err("reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_allowed_greeting_reaches_the_server_and_ends_are_kept_apart() {
    let house = House::new().await;
    let mut client = house.client().await;
    let greeting = greeting("Good.Example");
    client.write_all(&greeting).await.expect("sent");
    client.write_all(b"early data").await.expect("sent");
    client.shutdown().await.expect("shut");
    let (mut server, _) = house.server.accept().await.expect("connected");
    let mut said = Vec::new();
    server.read_to_end(&mut said).await.expect("read");
    assert_eq!(said, [&greeting[..], b"early data"].concat());
    // The client is done; the server has much to say still.
    let much: Vec<u8> = (0..1_000_000_u32).map(|byte| byte.to_be_bytes()[3]).collect();
    let saying = async {
        server.write_all(&much).await.expect("sent");
        server.shutdown().await.expect("shut");
    };
    let mut heard = Vec::new();
    let ((), read) = tokio::join!(saying, client.read_to_end(&mut heard));
    read.expect("an orderly end");
    assert!(heard == much, "{} bytes", heard.len());
    assert_eq!(house.judged(), [(WANTED, Some("good.example".into()))]);
}

#[tokio::test]
async fn a_greeting_in_pieces_is_read_whole() {
    let house = House::new().await;
    let greeting = records(&hello(&[server_name("good.example"), encrypted_hello()]), 50);
    let mut client = house.client().await;
    client.set_nodelay(true).expect("set");
    for part in greeting.chunks(7) {
        client.write_all(part).await.expect("sent");
        tokio::task::yield_now().await;
    }
    let (mut server, _) = house.server.accept().await.expect("connected");
    let mut said = vec![0; greeting.len()];
    server.read_exact(&mut said).await.expect("read");
    assert_eq!(said, greeting);
    assert_eq!(house.judged(), [(WANTED, Some("good.example".into()))]);
}

#[tokio::test]
async fn what_the_judge_refuses_is_reset() {
    let other = [server_name("good.example"), server_name("evil.example")];
    let both = [&[0][..], &counted(b"good.example"), &[0], &counted(b"evil.example")].concat();
    for (bytes, name) in [
        (greeting("evil.example"), Some("evil.example")),
        (greeting("good.example.evil.example"), Some("good.example.evil.example")),
        (greeting("localhost"), None),
        (greeting("192.0.2.1"), None),
        (greeting("good.example\0.evil.example"), None),
        (records(&hello(&[]), 16384), None),
        (records(&hello(&[encrypted_hello()]), 16384), None),
        (records(&hello(&other), 16384), None),
        (records(&hello(&[extension(0, &counted(&both))]), 16384), None),
        (b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n".to_vec(), None),
        (b"SSH-2.0-client\r\n".to_vec(), None),
        (vec![0xff; 70_000], None),
    ] {
        let house = House::new().await;
        let mut client = house.client().await;
        // It may be reset before all is sent.
        drop(client.write_all(&bytes).await);
        assert_reset(&mut client).await;
        assert_eq!(house.judged(), [(WANTED, name.map(str::to_owned))], "{bytes:?}");
    }
}

#[tokio::test]
async fn a_change_that_refuses_the_name_resets_both_ends_and_no_other_does() {
    let house = House::new().await;
    let mut client = house.client().await;
    let greeting = greeting("good.example");
    client.write_all(&greeting).await.expect("sent");
    let (mut server, _) = house.server.accept().await.expect("connected");
    let mut said = vec![0; greeting.len()];
    server.read_exact(&mut said).await.expect("read");
    house.judge.1.send_replace(2);
    for byte in 0..9 {
        client.write_all(&[byte]).await.expect("sent");
        assert_eq!(server.read_u8().await.expect("it goes on"), byte);
    }
    house.judge.1.send_replace(3);
    assert_reset(&mut client).await;
    assert_reset(&mut server).await;
}

#[tokio::test]
async fn a_change_while_connecting_comes_before_the_greeting() {
    let tasks = Tasks::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let proxy = listener.local_addr().expect("bound");
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let address = server.local_addr().expect("bound");
    let judge = Arc::new(OneName::default());
    let changed = Arc::clone(&judge);
    let connect = move |_: SocketAddrV4| {
        changed.1.send_replace(1);
        TcpStream::connect(address)
    };
    let large_buffers = Semaphore::new(1);
    Proxy { judge, connect, destination: wanted, large_buffers }.serve(listener, &tasks);
    let mut client = TcpStream::connect(proxy).await.expect("connected");
    client.write_all(&greeting("good.example")).await.expect("sent");
    let (mut server, _) = server.accept().await.expect("connected");
    assert_reset(&mut client).await;
    // However it ends there: it was not done connecting.
    let heard = server.read(&mut [0; 16]).await;
    assert!(!matches!(heard, Ok(1..)), "{heard:?}");
}

#[tokio::test]
async fn a_greeting_without_end_is_reset() {
    let house = House::new().await;
    let mut client = house.client().await;
    // Says that 16 MiB follow, in records that are all right.
    let endless = [&[1, 0xff, 0xff, 0xff][..], &[0; 200_000]].concat();
    drop(client.write_all(&records(&endless, 16384)).await);
    assert_reset(&mut client).await;
    assert_eq!(house.judged(), [(WANTED, None)]);
}

#[tokio::test]
async fn a_client_that_ends_within_its_greeting_is_no_case_for_the_judge() {
    let house = House::new().await;
    let mut client = house.client().await;
    client.write_all(&greeting("good.example")[..40]).await.expect("sent");
    client.shutdown().await.expect("shut");
    assert_reset(&mut client).await;
    assert_eq!(house.judged(), []);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_reset_in_time() {
    let house = House::new().await;
    let mut client = house.client().await;
    assert_reset(&mut client).await;
    assert_eq!(house.judged(), [(WANTED, None)]);
}

#[tokio::test]
async fn a_server_that_is_reset_or_absent_resets_the_client() {
    let house = House::new().await;
    let mut client = house.client().await;
    client.write_all(&greeting("good.example")).await.expect("sent");
    let (server, _) = house.server.accept().await.expect("connected");
    server.set_zero_linger().expect("set");
    drop(server);
    assert_reset(&mut client).await;
    let House { proxy, server, .. } = &house;
    let mut client = TcpStream::connect(proxy).await.expect("connected");
    let gone = server.local_addr().expect("bound");
    drop(house.server);
    client.write_all(&greeting("good.example")).await.expect("sent");
    assert_reset(&mut client).await;
    assert!(TcpStream::connect(gone).await.is_err());
}

#[tokio::test]
async fn a_connection_that_nobody_redirected_is_reset() {
    let tasks = Tasks::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let proxy = listener.local_addr().expect("bound");
    let judge = Arc::new(OneName::default());
    serve(listener, Arc::clone(&judge) as _, TcpStream::connect::<SocketAddrV4>, &tasks);
    let mut client = TcpStream::connect(proxy).await.expect("connected");
    // Where the kernel tracks connections it knows this one, to the proxy itself; else it knows none.
    if let Ok(found) = original_destination(&client) {
        assert_eq!(SocketAddr::V4(found), proxy);
    }
    assert_reset(&mut client).await;
    assert_eq!(judge.0.lock().expect("sound").len(), 0);
}
