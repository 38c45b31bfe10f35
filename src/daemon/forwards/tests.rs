//! Ports of the host: had by one, named when they are not to be had, free as soon as they are closed.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::vm::ports::Ports;
use crate::vm::tests::world::World;
use crate::vm::tests::{daemon_with, wish};
use crate::wire::rpc::{ClientContext, CreateVm};

fn name(text: &str) -> VmName {
    text.parse().expect("valid")
}

/// A port of loopback that is free now.
fn free() -> Publish {
    let port = TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("bound").port();
    format!("{port}:80").parse().expect("valid")
}

#[tokio::test]
async fn a_port_is_one_vms_and_free_as_soon_as_it_is_closed() {
    let ports = HostPorts::new(Tasks::default());
    let (web, other, publish) = (VmId::random(), VmId::random(), free());
    for _ in 0..20 {
        assert!(ports.open(&web, &name("web"), &[publish]).is_empty());
        let refused = ports.open(&other, &name("other"), &[publish]);
        let error = &refused[0].1;
        assert_eq!(error.kind, Kind::Conflict);
        assert!(error.message.contains("of `other`: `web` has"), "{error:?}");
        assert_eq!(ports.failed(&other).len(), 1);
        ports.close(&other);
        ports.close(&web);
        assert!(ports.failed(&other).is_empty());
    }
}

#[tokio::test]
async fn what_cannot_be_had_is_said_and_the_rest_is_open() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = taken.local_addr().expect("bound").port();
    let taken: Publish = format!("{port}:80").parse().expect("valid");
    // Addresses of documentation are no host's.
    let foreign: Publish = "192.0.2.7:1:80".parse().expect("valid");
    let good = free();
    let (ports, web) = (HostPorts::new(Tasks::default()), VmId::random());
    let refused = ports.open(&web, &name("web"), &[taken, good, foreign]);
    let kinds: Vec<_> = refused.iter().map(|(publish, error)| (*publish, error.kind)).collect();
    assert_eq!(kinds, [(taken, Kind::Conflict), (foreign, Kind::Invalid)]);
    assert!(refused.iter().all(|(_, error)| error.hint.is_some()), "{refused:?}");
    std::net::TcpStream::connect(good.address()).expect("it listens");
    ports.close(&web);
    std::net::TcpStream::connect(good.address()).expect_err("it is closed");
}

/// Sends all and ends that half, and returns all that comes back.
async fn exchange(address: SocketAddr, sent: &[u8]) -> io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address).await?;
    let (mut reader, mut writer) = socket.split();
    let mut got = Vec::new();
    let feed = async {
        writer.write_all(sent).await?;
        writer.shutdown().await
    };
    let (fed, read) = tokio::join!(feed, reader.read_to_end(&mut got));
    fed.and(read).map(|_| got)
}

/// An open connection, for which the guest has been asked.
async fn carried(address: SocketAddr, world: &World) -> TcpStream {
    let before = world.host().connected.len();
    let mut open = TcpStream::connect(address).await.expect("connects");
    open.write_all(b"half").await.expect("taken");
    while world.host().connected.len() == before {
        tokio::task::yield_now().await;
    }
    open
}

#[tokio::test]
async fn connections_reach_the_guest_as_long_as_it_runs() {
    let (world, tasks, publish) = (World::default(), Tasks::default(), free());
    let ports = Arc::new(HostPorts::new(tasks.clone()));
    let daemon = daemon_with(&world, None, |rest| Ports { forwards: ports, ..rest });
    let made = CreateVm { publish: vec![publish], ..wish("web") };
    daemon.vms.create(made, None).await.expect("created");
    let (address, sent) = (publish.address(), vec![7; 1_000_000]);
    let all = (0..50).map(|_| exchange(address, &sent));
    for got in futures_util::future::join_all(all).await {
        assert!(got.expect("carried") == sent);
    }
    assert_eq!(world.host().connected, [80; 50]);

    let mut open = carried(address, &world).await;
    daemon.vms.stop("web").await.expect("stopped");
    let end = open.read(&mut [0]).await.expect_err("not a whole");
    assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
    TcpStream::connect(address).await.expect_err("nobody listens");

    daemon.vms.start("web", ClientContext::default(), true).await.expect("an operation");
    assert_eq!(exchange(address, b"again").await.expect("carried"), b"again");
    let mut open = carried(address, &world).await;
    assert_eq!(tasks.drain(Duration::from_secs(10)).await, 0, "they end with the daemon");
    let end = open.read(&mut [0]).await.expect_err("not a whole");
    assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
}
