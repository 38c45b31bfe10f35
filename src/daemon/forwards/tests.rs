//! Ports of the host: had by one, named when they are not to be had, free as soon as they are closed.

use super::*;

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
