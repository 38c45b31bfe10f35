//! The host's own resolver: our zone for the loopback, and nothing for strangers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::super::Upstream;
use super::super::host::{BindError, Clients, HostAnswers, HostResolver};
use super::super::message::{Heard, hear};
use super::super::serve::{Answers, Bounds, serve};
use super::{Nameserver, address, addresses, by_tcp, by_udp, code, question, sockets, test_zone};
use crate::task::Tasks;

fn zone() -> watch::Receiver<Arc<super::Zone>> {
    watch::channel(Arc::new(test_zone())).1
}

fn ranges(texts: &[&str], upstream: Vec<SocketAddr>) -> Clients {
    let ranges = texts.iter().map(|text| text.parse().expect("a range")).collect();
    Clients { ranges, upstream: Upstream::new(upstream) }
}

#[tokio::test]
async fn the_loopback_is_told_our_zone_and_nothing_else() {
    let tasks = Tasks::default();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let resolver = HostResolver::bind(any, ranges(&[], vec![])).await.expect("bound");
    let server = resolver.address().expect("bound");
    resolver.serve(zone(), &tasks);
    let web = question("web.cove.internal.", RecordType::A, None);
    assert_eq!(addresses(&by_udp(server, &web).await), ["10.9.0.2"]);
    assert_eq!(addresses(&by_tcp(server, &web).await), ["10.9.0.2"]);
    let reverse = question("2.0.9.10.in-addr.arpa.", RecordType::PTR, None);
    assert_eq!(by_udp(server, &reverse).await.answers.len(), 1);
    for other in ["example.org.", "3.0.9.10.in-addr.arpa.", "internal.", "."] {
        let answer = by_udp(server, &question(other, RecordType::A, None)).await;
        assert_eq!(code(&answer), ResponseCode::Refused, "{other}");
    }
}

#[tokio::test]
async fn other_addresses_need_clients() {
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let refused = HostResolver::bind(everywhere, ranges(&[], vec![])).await;
    assert!(matches!(refused, Err(BindError::NotLoopback { .. })));
    let given = HostResolver::bind(everywhere, ranges(&["10.9.0.0/24"], vec![])).await;
    assert!(given.is_ok());
    // TEST-NET-1: nobody's address.
    let absent = SocketAddr::from(([192, 0, 2, 77], 0));
    let refused = HostResolver::bind(absent, ranges(&["10.9.0.0/24"], vec![])).await;
    assert!(matches!(refused, Err(BindError::Bind { .. })));
}

#[tokio::test]
async fn only_clients_in_the_ranges_have_other_names_asked() {
    let tasks = Tasks::default();
    let script = |_: &_, _, answer: &mut super::Message| {
        answer.add_answer(address("a.example.", 60, [1, 1, 1, 1]));
    };
    let nameserver = Nameserver::start(&tasks, Arc::new(script)).await;
    let clients = ranges(&["10.9.0.0/24", "127.0.0.0/8"], vec![nameserver.address]);
    let own = IpAddr::from([10, 9, 0, 1]);
    let host = HostAnswers { zone: zone(), own, clients };
    let bytes = question("a.example.", RecordType::A, None).to_vec().expect("bytes");
    let Heard::Question(asked) = hear(&bytes) else { panic!("a question") };
    for (client, heard, expected) in [
        ("10.9.0.7", true, ResponseCode::NoError),
        ("::ffff:10.9.0.7", true, ResponseCode::NoError),
        ("10.9.0.1", true, ResponseCode::Refused),
        ("127.0.0.1", true, ResponseCode::Refused),
        ("::1", true, ResponseCode::Refused),
        ("10.9.1.7", false, ResponseCode::Refused),
        ("8.8.8.8", false, ResponseCode::Refused),
    ] {
        let client: IpAddr = client.parse().expect("an address");
        assert_eq!(host.hears(client), heard, "{client}");
        assert_eq!(code(&host.answer(&asked, client).await), expected, "{client}");
    }
    assert_eq!(nameserver.asked().len(), 2);
}

#[tokio::test]
async fn strangers_get_no_answer() {
    struct Nobody;
    #[async_trait::async_trait]
    impl Answers for Nobody {
        fn bounds(&self) -> Bounds {
            Bounds { questions: 1, connections: 1, parts: 1 }
        }

        fn hears(&self, _: IpAddr) -> bool {
            false
        }

        async fn answer(
            &self,
            question: &super::super::message::Question,
            _: IpAddr,
        ) -> super::Message {
            panic!("asked for {}", question.query)
        }
    }
    let tasks = Tasks::default();
    let (udp, tcp) = sockets().await;
    let server = tcp.local_addr().expect("bound");
    serve(udp, tcp, Arc::new(Nobody), &tasks);
    let mut stream = TcpStream::connect(server).await.expect("connected");
    assert_eq!(stream.read(&mut [0; 1]).await.expect("ended"), 0);
}
