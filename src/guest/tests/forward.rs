//! Connections to ports of the guest, through the real agent.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::agent::forward::MAX_FORWARDS;
use crate::wire::guest::ConnectFailure;
use crate::wire::relay::{NotOpened, WINDOW, opened, relay};

/// A program in the guest that listens, and its port.
async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

async fn try_open(guest: &Guest, port: u16) -> Result<Framed<Stream, FrameCodec>, NotOpened> {
    let mut frames = guest.agent.connect(port).await.expect("answers").framed();
    opened(&mut frames).await.map(|()| frames)
}

/// A client of the host that is connected to a port, and how its connection ends.
async fn client(
    guest: &Guest,
    port: u16,
    tasks: &Tasks,
) -> (DuplexStream, tokio::task::JoinHandle<io::Result<()>>) {
    let mut frames = try_open(guest, port).await.expect("connected");
    let (client, mut near) = duplex(4096);
    let end = tasks.spawn("relay", async move { relay(&mut frames, &mut near).await });
    (client, end)
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 13 % 251) as u8).collect()
}

#[tokio::test]
async fn much_goes_both_ways_through_a_program_that_gives_it_back() {
    for device in [straight, one_way_at_a_time as Device] {
        let guest = Guest::ready_behind(device).await;
        let (listener, port) = listener().await;
        let tasks = Tasks::default();
        tasks.spawn("echo", async move {
            let (mut socket, _) = listener.accept().await.expect("somebody comes");
            let (mut read, mut write) = socket.split();
            tokio::io::copy(&mut read, &mut write).await.expect("copied");
        });
        let (client, end) = client(&guest, port, &tasks).await;
        let sent = noise(20 * WINDOW + 7);
        let (mut read, mut write) = tokio::io::split(client);
        let feed = async {
            write.write_all(&sent).await.expect("taken");
            write.shutdown().await.expect("ended");
        };
        let mut got = Vec::new();
        let both = async { tokio::join!(feed, read.read_to_end(&mut got)).1.expect("read") };
        timeout(LONG, both).await.expect("nothing stands still");
        assert!(got == sent, "{} bytes came back", got.len());
        end.await.expect("no panic").expect("both directions ended");
    }
}

#[tokio::test]
async fn a_port_where_nothing_listens_is_told_apart() {
    let guest = Guest::ready().await;
    let (listener, port) = listener().await;
    drop(listener);
    let refused = try_open(&guest, port).await.err().expect("nobody is there");
    let NotOpened::Failed { reason: ConnectFailure::Refused, message } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(message, format!("nothing listens on port {port} of the guest"));
    // On the other loopback only.
    if let Ok(listener) = TcpListener::bind("[::1]:0").await {
        let port = listener.local_addr().expect("bound").port();
        try_open(&guest, port).await.expect("it is found there");
    }
    let early = try_open(&Guest::new(), port).await.err().expect("not set up");
    assert!(early.to_string().contains("has not been set up"), "{early}");
}

#[tokio::test]
async fn a_reset_on_either_side_ends_the_other() {
    let guest = Guest::ready().await;
    let (listener, port) = listener().await;
    let tasks = Tasks::default();
    // By the program.
    let (mut of_host, end) = client(&guest, port, &tasks).await;
    let (program, _) = listener.accept().await.expect("connected");
    program.set_zero_linger().expect("set");
    drop(program);
    end.await.expect("no panic").expect_err("it was broken off");
    assert_eq!(of_host.read(&mut [0]).await.expect("its end"), 0);
    // By the host, which goes away without a word.
    let frames = try_open(&guest, port).await.expect("connected");
    let (mut program, _) = listener.accept().await.expect("connected");
    drop(frames);
    let error = program.read(&mut [0]).await.expect_err("not a whole");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn connections_are_bounded_and_programs_are_still_run() {
    let guest = Guest::ready().await;
    let (listener, port) = listener().await;
    let mut open = Vec::new();
    for _ in 0..MAX_FORWARDS {
        let frames = try_open(&guest, port).await.expect("connected");
        let (program, _): (TcpStream, _) = listener.accept().await.expect("connected");
        open.push((frames, program));
    }
    let many = try_open(&guest, port).await.err().expect("one too many");
    let NotOpened::Failed { reason: ConnectFailure::TooMany, .. } = many else {
        panic!("{many:?}");
    };
    guest.agent.health().await.expect("it answers");
    open.pop();
    let again = async {
        while try_open(&guest, port).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SHORT, again).await.expect("there is a place again");
}

#[tokio::test]
async fn a_program_that_does_not_read_holds_a_bounded_number_of_bytes() {
    let guest = Guest::ready().await;
    let (listener, port) = listener().await;
    let tasks = Tasks::default();
    let (mut of_host, _end) = client(&guest, port, &tasks).await;
    let (mut program, _) = listener.accept().await.expect("connected");
    // More than the kernel's buffers for one connection and all of ours.
    let much = vec![0; 64 << 20];
    let stuck = timeout(Duration::from_secs(1), of_host.write_all(&much)).await;
    stuck.expect_err("not all of it can be anywhere");
    program.write_all(b"the other way is open").await.expect("taken");
    let mut got = [0; 21];
    of_host.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"the other way is open");
}
