//! Carries bytes between two connections, both ways, until each end has said all.
//!
//! ```text
//!  read what is there ─▶ write all of it ─┐     the end: passed on, for this direction alone
//!         ▲                               │     a buffer that was filled: a large one, while there are any
//!         └───────────────────────────────┘     an error: the end of both directions
//! ```
//!
//! What takes time here is less the copying than the waking: every turn wakes the process behind the other
//! connection, and sends what it has as segments of its own. A segment of a guest's link has as many bytes as
//! a small buffer ([`crate::net::link::MTU`]), so with that a turn moves one, and often some bytes of the next
//! as a segment of a few bytes. (`splice` saves the copies, and is no faster for it.)

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Semaphore;

/// What each direction has to begin with.
const BUFFER: usize = 64 << 10;

/// What it has after it was sent so much at once: eight segments of a guest's link.
const LARGE_BUFFER: usize = 512 << 10;

/// How many directions of one VM have a large buffer at one time; the others stay as they are.
pub(super) const LARGE_BUFFERS: usize = 64;

/// Carries until both ends have said all; one may be done long before the other. `large` is places for large
/// buffers.
///
/// # Errors
/// When one of the connections breaks.
pub(super) async fn both_ways(
    client: &mut TcpStream,
    server: &mut TcpStream,
    large: &Semaphore,
) -> io::Result<()> {
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let there = one_way(from_client, to_server, large);
    tokio::try_join!(there, one_way(from_server, to_client, large))?;
    Ok(())
}

async fn one_way(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    large: &Semaphore,
) -> io::Result<()> {
    let (mut buffer, mut place) = (Vec::with_capacity(BUFFER), None);
    while from.read_buf(&mut buffer).await? > 0 {
        to.write_all(&buffer).await?;
        if buffer.len() == buffer.capacity() && place.is_none() {
            place = large.try_acquire().ok();
            if place.is_some() {
                buffer = Vec::with_capacity(LARGE_BUFFER);
            }
        }
        buffer.clear();
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::task::Tasks;

    /// More than the kernel holds for connections whose readers have stopped.
    const MUCH: usize = 48 << 20;

    /// The ends of a connection that is carried, and what comes of that.
    struct Carried {
        client: TcpStream,
        server: TcpStream,
        over: JoinHandle<io::Result<()>>,
        tasks: Tasks,
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let connect = TcpStream::connect(listener.local_addr().expect("bound"));
        let (one, other) = tokio::join!(connect, listener.accept());
        (one.expect("connected"), other.expect("accepted").0)
    }

    impl Carried {
        async fn new(large: &Arc<Semaphore>) -> Self {
            let ((client, mut near), (mut far, server)) = (pair().await, pair().await);
            let (tasks, large) = (Tasks::default(), Arc::clone(large));
            let carry = async move { both_ways(&mut near, &mut far, &large).await };
            let over = tasks.spawn("carry", carry);
            Self { client, server, over, tasks }
        }
    }

    fn much() -> Vec<u8> {
        (0..MUCH).map(|at| (at % 251).to_le_bytes()[0]).collect()
    }

    #[tokio::test]
    async fn the_end_of_one_direction_leaves_the_other() {
        let large = Arc::new(Semaphore::new(1));
        let Carried { mut client, mut server, over, tasks: _tasks } = Carried::new(&large).await;
        server.write_all(b"done").await.expect("sent");
        server.shutdown().await.expect("shut");
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.expect("an orderly end");
        assert_eq!(heard, b"done");
        for byte in 0..9 {
            client.write_all(&[byte]).await.expect("sent");
            assert_eq!(server.read_u8().await.expect("it goes on"), byte);
        }
        assert!(!over.is_finished());
        client.shutdown().await.expect("shut");
        assert_eq!(server.read(&mut [0]).await.expect("an orderly end"), 0);
        over.await.expect("no panic").expect("both have ended");
        assert_eq!(large.available_permits(), 1, "so little takes no large buffer");
    }

    #[tokio::test]
    async fn an_end_that_stalls_holds_up_its_direction_alone_and_loses_nothing() {
        for places in [0, 1] {
            let large = Arc::new(Semaphore::new(places));
            let Carried { client, mut server, over, tasks } = Carried::new(&large).await;
            let (mut hears, mut says) = client.into_split();
            let saying = tasks.spawn("client", async move {
                says.write_all(&much()).await.expect("sent");
                says
            });
            for byte in 0..9 {
                server.write_all(&[byte]).await.expect("sent");
                assert_eq!(hears.read_u8().await.expect("it goes on"), byte);
            }
            assert!(!saying.is_finished(), "nobody has read it");
            let mut heard = vec![0; MUCH];
            server.read_exact(&mut heard).await.expect("read");
            assert!(heard == much(), "all of it, in order");
            assert_eq!(large.available_permits(), 0, "it is in use");
            drop((saying.await.expect("no panic"), server));
            drop(over.await.expect("no panic"));
            assert_eq!(large.available_permits(), places, "it is given back");
        }
    }

    #[tokio::test]
    async fn a_reset_is_the_end_of_a_direction_that_stalls_too() {
        let large = Arc::new(Semaphore::new(1));
        let Carried { client, mut server, over, tasks } = Carried::new(&large).await;
        let saying = tasks.spawn("server", async move { server.write_all(&much()).await });
        client.readable().await.expect("something has come");
        client.set_zero_linger().expect("set");
        drop(client);
        let broken = over.await.expect("no panic").expect_err("it was reset");
        assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset, "{broken}");
        saying.await.expect("no panic").expect_err("nobody takes it");
        assert_eq!(large.available_permits(), 1);
    }
}
