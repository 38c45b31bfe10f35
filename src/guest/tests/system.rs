//! What the agent does to the guest's system, and tells of it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

#[tokio::test]
async fn a_guest_tells_how_it_is_and_who_listens() {
    let guest = Guest::new();
    guest.agent.stats().await.expect_err("not set up");
    let guest = Guest::ready().await;
    let stats = guest.agent.stats().await.expect("told");
    assert_eq!(stats.uptime_ms, 7);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("bound").port();
    let told = guest.agent.listening().await.expect("told");
    let own = told.sockets.iter().find(|socket| socket.port == port).expect("it listens");
    assert_eq!(own.pid, i32::try_from(std::process::id()).ok());
}

#[test]
fn a_guest_cannot_tell_without_end() {
    let socket = crate::wire::guest::ListeningSocket {
        protocol: crate::wire::guest::Protocol::Tcp,
        port: 80,
        address: std::net::Ipv4Addr::UNSPECIFIED.into(),
        pid: Some(1),
        program: Some("ä".repeat(1000)),
    };
    let told = crate::wire::guest::Listening { sockets: vec![socket; 5000], more: false };
    let told = told.bounded();
    assert_eq!((told.sockets.len(), told.more), (crate::wire::guest::MAX_SOCKETS, true));
    let name = told.sockets[0].program.as_deref().expect("a name");
    assert_eq!(name.chars().count(), crate::wire::guest::MAX_PROGRAM);
}

#[tokio::test]
async fn the_clock_of_a_guest_is_set_to_the_hosts() {
    let guest = Guest::ready().await;
    let now = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        u64::try_from(now.as_millis()).expect("a while yet")
    };
    let before = now();
    guest.agent.set_clock().await.expect("set");
    assert!((before..=now()).contains(&guest.clock.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn a_disk_grows_in_a_guest_that_is_set_up() {
    let guest = Guest::new();
    let early = guest.agent.grow_work_disk(1).await.expect_err("not set up");
    assert!(early.to_string().contains("has not been set up"), "{early}");
    let guest = Guest::ready().await;
    guest.agent.grow_work_disk(1).await.expect("grown");
    let failed = guest.agent.grow_work_disk(0).await.expect_err("it fails").to_string();
    assert!(failed.contains("see the work disk grow: it has 1 bytes"), "{failed}");
}
