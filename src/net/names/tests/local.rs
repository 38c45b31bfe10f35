//! What is answered without asking anybody: our zone, and refusals.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use super::{Families, House, TestJudge, addresses, by_tcp, by_udp, code, question, test_zone};

/// The code of the extended error of an answer.
fn extended(message: &Message) -> Option<u16> {
    let option = message.edns.as_ref()?.option(EdnsCode::Unknown(15))?;
    match option {
        EdnsOption::Unknown(15, data) => Some(u16::from_be_bytes([data[0], data[1]])),
        _ => None,
    }
}

async fn silent_house() -> House {
    let judge = TestJudge { refused: ["evil.example".to_owned()].into(), ..TestJudge::default() };
    House::with(judge, Families::Ipv4, |query, _, _| panic!("asked upstream for {query}")).await
}

#[tokio::test]
async fn the_zone_is_answered_forward_and_reverse() {
    let house = silent_house().await;
    let answer = house.ask("WEB.cove.Internal.", RecordType::A).await;
    assert_eq!(
        (code(&answer), addresses(&answer)),
        (ResponseCode::NoError, vec!["10.9.0.2".into()])
    );
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    let answer = house.ask("2.0.9.10.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(answer.answers[0].data.to_string(), "web.cove.internal.");
    let answer = house.ask("web.cove.internal.", RecordType::TXT).await;
    assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
    for missing in
        ["db.cove.internal.", "a.web.cove.internal.", "*.cove.internal.", "-.cove.internal."]
    {
        let answer = house.ask(missing, RecordType::A).await;
        assert_eq!(code(&answer), ResponseCode::NXDomain, "{missing}");
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA, "{missing}");
    }
    for kind in [RecordType::SOA, RecordType::NS] {
        let answer = house.ask("cove.internal.", kind).await;
        assert_eq!(answer.answers[0].record_type(), kind);
    }
    assert_eq!(house.nameserver.asked(), []);
}

#[tokio::test]
async fn a_new_state_of_the_zone_is_answered_from_at_once() {
    let house = silent_house().await;
    let mut zone = test_zone();
    let address: IpAddr = [10, 9, 0, 3].into();
    zone.add(&"db".parse().expect("a name"), vec![address]).expect("a name");
    house.zone.send(Arc::new(zone)).expect("watched");
    assert_eq!(addresses(&house.ask("db.cove.internal.", RecordType::A).await), ["10.9.0.3"]);
}

#[tokio::test]
async fn ipv6_addresses_are_for_guests_that_have_it() {
    let house = silent_house().await;
    let answer = house.ask("web.cove.internal.", RecordType::AAAA).await;
    assert_eq!((code(&answer), addresses(&answer).len()), (ResponseCode::NoError, 0));
    let house = House::with(TestJudge::default(), Families::BothOfVms, |_, _, _| ()).await;
    let answer = house.ask("web.cove.internal.", RecordType::AAAA).await;
    assert_eq!(addresses(&answer), ["fd00::2"]);
}

#[tokio::test]
async fn what_is_refused_says_so_and_is_never_asked() {
    let house = silent_house().await;
    for kind in [RecordType::A, RecordType::AAAA, RecordType::HTTPS, RecordType::TXT] {
        let answer = house.ask("evil.example.", kind).await;
        assert_eq!((code(&answer), extended(&answer)), (ResponseCode::Refused, Some(15)), "{kind}");
    }
    let plain = by_udp(house.address, &question("evil.example.", RecordType::A, None)).await;
    assert_eq!((code(&plain), plain.edns.is_none()), (ResponseCode::Refused, true));
    for kind in [RecordType::ANY, RecordType::AXFR, RecordType::IXFR, RecordType::Unknown(253)] {
        let answer = house.ask("good.example.", kind).await;
        assert_eq!((code(&answer), extended(&answer)), (ResponseCode::Refused, Some(21)), "{kind}");
    }
    for (name, kind, expected) in [
        ("localhost.", RecordType::A, ResponseCode::NXDomain),
        ("router.", RecordType::AAAA, ResponseCode::NXDomain),
        ("org.", RecordType::NS, ResponseCode::Refused),
        (".", RecordType::NS, ResponseCode::Refused),
        ("a/b.example.", RecordType::A, ResponseCode::Refused),
        ("evil/example.", RecordType::A, ResponseCode::Refused),
        ("*.example.", RecordType::A, ResponseCode::Refused),
        ("\0.example.", RecordType::A, ResponseCode::Refused),
        ("\u{ff}.example.", RecordType::A, ResponseCode::Refused),
        ("1.2.3.4.", RecordType::A, ResponseCode::Refused),
        ("1.1.168.192.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain),
        ("1.0.0.127.IN-ADDR.arpa.", RecordType::PTR, ResponseCode::NXDomain),
        ("1.168.192.in-addr.arpa.", RecordType::SOA, ResponseCode::NXDomain),
        ("lb._dns-sd._udp.0.1.168.192.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain),
        ("b._dns-sd._udp.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain),
        ("d.f.ip6.arpa.", RecordType::NS, ResponseCode::NXDomain),
        ("192.in-addr.arpa.", RecordType::NS, ResponseCode::NoError),
        ("x.in-addr.arpa.", RecordType::TXT, ResponseCode::NoError),
        ("f.ip6.arpa.", RecordType::NS, ResponseCode::NoError),
    ] {
        assert_eq!(code(&house.ask(name, kind).await), expected, "{name} {kind}");
    }
    assert_eq!(house.nameserver.asked(), []);
}

#[tokio::test]
async fn what_is_no_plain_question_is_answered_so() {
    let house = silent_house().await;
    let good = || question("web.cove.internal.", RecordType::A, Some(1232));
    let mut update = good();
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&by_udp(house.address, &update).await), ResponseCode::NotImp);
    let mut two = good();
    two.add_query(two.queries[0].clone());
    assert_eq!(code(&by_udp(house.address, &two).await), ResponseCode::FormErr);
    let mut none = good();
    none.queries.clear();
    assert_eq!(code(&by_tcp(house.address, &none).await), ResponseCode::FormErr);
    let mut chaos = good();
    chaos.queries[0].set_name(Name::from_ascii("version.bind.").expect("a name"));
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&by_udp(house.address, &chaos).await), ResponseCode::Refused);
    let mut newer = good();
    newer.edns.as_mut().expect("it has").set_version(1);
    assert_eq!(u16::from(code(&by_udp(house.address, &newer).await)), 16, "BADVERS");
}
