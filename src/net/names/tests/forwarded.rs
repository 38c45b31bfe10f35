//! What is asked of the nameserver, and what of its answers is passed on.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, MX, SOA, TXT};
use hickory_proto::rr::{RData, RecordType};

use super::super::message::UDP_LIMIT;
use super::super::{MAX_ADDRESSES, Upstream};
use super::{
    Families, House, TestJudge, Transport, address, addresses, alias, by_tcp, by_udp, code, name,
    question, record,
};

#[tokio::test]
async fn addresses_are_judged_under_the_name_that_was_asked() {
    let house = House::new(|_, _, answer| {
        answer.add_answers([
            alias("www.example.org.", 300, "CDN.example.net."),
            alias("cdn.example.net.", 200, "edge.example.net."),
            address("edge.example.net.", 100, [1, 1, 1, 1]),
            address("edge.example.net.", 500, [8, 8, 8, 8]),
            address("other.example.net.", 500, [9, 9, 9, 9]),
        ]);
        answer.add_additional(address("edge.example.net.", 100, [7, 7, 7, 7]));
    });
    let house = house.await;
    let answer = house.ask("WWW.example.org.", RecordType::A).await;
    assert_eq!((answer.answers.len(), answer.additionals.len()), (4, 0));
    assert_eq!(addresses(&answer), ["1.1.1.1", "8.8.8.8"]);
    assert!(answer.answers.iter().all(|record| record.ttl == 100), "the shortest of all");
    let told: Vec<IpAddr> = vec![[1, 1, 1, 1].into(), [8, 8, 8, 8].into()];
    assert_eq!(*house.judge.told.lock().expect("sound"), [("www.example.org".into(), told, 100)]);
    assert_eq!(house.nameserver.asked(), [("www.example.org.".into(), RecordType::A)]);
}

#[tokio::test]
async fn the_guest_is_told_the_time_that_the_judge_is_told() {
    for (sent, told) in [(0, 1), (1, 1), (59, 59), (3600, 3600), (u32::MAX, 3600)] {
        let house = House::new(move |_, _, answer| {
            answer.add_answer(address("a.example.", sent, [1, 1, 1, 1]));
        });
        let house = house.await;
        let answer = house.ask("a.example.", RecordType::A).await;
        assert_eq!(answer.answers[0].ttl, told);
        assert_eq!(house.judge.told.lock().expect("sound")[0].2, u64::from(told));
    }
}

#[tokio::test]
async fn a_rebinding_answer_leads_nowhere() {
    let house = House::new(|query, _, answer| {
        let owner = query.name().to_ascii();
        if owner.starts_with("mixed") {
            answer.add_answer(address(&owner, 60, [1, 1, 1, 1]));
        }
        answer.add_answer(address(&owner, 60, [127, 0, 0, 1]));
        answer.add_answer(address(&owner, 60, [169, 254, 169, 254]));
    });
    let house = house.await;
    let mixed = house.ask("mixed.example.", RecordType::A).await;
    assert_eq!((code(&mixed), addresses(&mixed)), (ResponseCode::NoError, vec!["1.1.1.1".into()]));
    let inner = house.ask("inner.example.", RecordType::A).await;
    assert_eq!((code(&inner), inner.answers.len()), (ResponseCode::Refused, 0));
}

#[tokio::test]
async fn no_addresses_are_told_that_the_firewall_has_not_taken() {
    let judge = TestJudge { broken: true, ..TestJudge::default() };
    let script = |_: &_, _, answer: &mut Message| {
        answer.add_answer(address("a.example.", 60, [1, 1, 1, 1]));
    };
    let house = House::with(judge, Families::Ipv4, script).await;
    let answer = house.ask("a.example.", RecordType::A).await;
    assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::ServFail, 0));
}

#[tokio::test]
async fn what_carries_addresses_past_the_judge_is_not_there() {
    let house = House::new(|query, _, answer| {
        answer.add_answer(record(
            "a.example.",
            60,
            RData::MX(MX::new(10, name("mail.a.example."))),
        ));
        answer.add_answer(address("a.example.", 60, [1, 1, 1, 1]));
        answer.add_additional(record("mail.a.example.", 60, RData::A(A(Ipv4Addr::LOCALHOST))));
        assert_eq!(query.query_type(), RecordType::MX, "the others are not asked for");
    });
    let house = house.await;
    for kind in [RecordType::AAAA, RecordType::HTTPS, RecordType::SVCB] {
        let answer = house.ask("a.example.", kind).await;
        assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::NoError, 0), "{kind}");
    }
    let answer = house.ask("a.example.", RecordType::MX).await;
    assert_eq!((answer.answers.len(), answer.additionals.len()), (1, 0));
    assert_eq!(answer.answers[0].record_type(), RecordType::MX);
    assert_eq!(house.judge.told.lock().expect("sound").len(), 0);
}

#[tokio::test]
async fn nothing_is_passed_on_as_nothing_with_its_reason() {
    let house = House::new(|query, _, answer| {
        let none = query.name().to_ascii().starts_with("none");
        let code = if none { ResponseCode::NXDomain } else { ResponseCode::Refused };
        answer.metadata.response_code = code;
        let start = SOA::new(name("ns.example."), name("a.example."), 1, 2, 3, 4, 5);
        answer.add_authority(record("example.", 100_000, RData::SOA(start)));
    });
    let house = house.await;
    let answer = house.ask("none.example.", RecordType::A).await;
    assert_eq!(code(&answer), ResponseCode::NXDomain);
    assert_eq!((answer.authorities.len(), answer.authorities[0].ttl), (1, 3600));
    let answer = house.ask("lame.example.", RecordType::A).await;
    assert_eq!(code(&answer), ResponseCode::ServFail, "a refusal that is not ours is a failure");
}

#[tokio::test]
async fn long_answers_are_cut_by_udp_and_whole_by_tcp() {
    let text = |index: usize| {
        let text = TXT::new(vec![format!("{index:0>200}")]);
        record("a.example.", 60, RData::TXT(text))
    };
    let house = House::new(move |query, transport, answer| match (query.query_type(), transport) {
        (RecordType::TXT, Transport::Udp) => answer.metadata.truncation = true,
        (RecordType::TXT, Transport::Tcp) => drop(answer.add_answers((0..40).map(text))),
        _ => {
            let last = (1..=70).map(|last| address("a.example.", 60, [1, 1, 1, last]));
            answer.add_answers(last);
        }
    });
    let house = house.await;
    for (payload, limit) in
        [(None, 512), (Some(100), 512), (Some(900), 900), (Some(4096), UDP_LIMIT)]
    {
        for kind in [RecordType::TXT, RecordType::A] {
            let answer = by_udp(house.address, &question("a.example.", kind, payload)).await;
            let length = answer.to_vec().expect("a message").len();
            assert!(length <= limit.into(), "{length} bytes for {payload:?}");
            let whole = kind == RecordType::A && limit == UDP_LIMIT;
            assert_eq!(answer.metadata.truncation, !whole, "{payload:?} {kind}");
        }
    }
    let answer = by_tcp(house.address, &question("a.example.", RecordType::TXT, None)).await;
    assert_eq!((answer.metadata.truncation, answer.answers.len()), (false, 40));
    let answer = by_tcp(house.address, &question("a.example.", RecordType::A, None)).await;
    assert_eq!(answer.answers.len(), MAX_ADDRESSES);
}

#[tokio::test]
async fn an_answer_too_long_to_read_stays_cut() {
    let house = House::new(|_, transport, answer| match transport {
        Transport::Udp => {
            answer.metadata.truncation = true;
            answer.add_answer(address("a.example.", 60, [1, 1, 1, 1]));
        }
        Transport::Tcp => {
            let many = (0..2000).map(|_| address("a.example.", 60, [1, 1, 1, 1]));
            answer.add_answers(many);
        }
    });
    let house = house.await;
    let answer = house.ask("a.example.", RecordType::A).await;
    assert_eq!((answer.metadata.truncation, addresses(&answer)), (true, vec!["1.1.1.1".into()]));
}

#[tokio::test]
async fn a_nameserver_that_is_gone_is_a_failure_and_the_next_one_is_asked() {
    let house = House::new(|_, _, answer| {
        answer.add_answer(address("a.example.", 60, [1, 1, 1, 1]));
    });
    let house = house.await;
    let (gone, _) = super::sockets().await;
    let gone = gone.local_addr().expect("bound");
    let both = Upstream::new(vec![gone, house.nameserver.address]);
    let name = name("a.example.");
    assert_eq!(addresses(&both.ask(&name, RecordType::A).await.expect("answered")), ["1.1.1.1"]);
    assert!(Upstream::new(vec![gone]).ask(&name, RecordType::A).await.is_err());
    assert!(Upstream::new(vec![]).ask(&name, RecordType::A).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_silent_nameserver_is_a_failure_in_time() {
    let (silent, _tcp) = super::sockets().await;
    let upstream = Upstream::new(vec![silent.local_addr().expect("bound")]);
    let error = upstream.ask(&name("a.example."), RecordType::A).await.expect_err("silent");
    assert_eq!(error.to_string(), "the nameserver did not answer in time");
    let mut buffer = [0; 512];
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (length, client) = silent.recv_from(&mut buffer).await.expect("a question");
        ids.push((
            Message::from_vec(&buffer[..length]).expect("a message").metadata.id,
            client.port(),
        ));
    }
    assert_ne!(ids[0], ids[1], "each try has its own id and port");
}

#[tokio::test]
async fn forged_answers_are_passed_over() {
    let (server, _tcp) = super::sockets().await;
    let server = Arc::new(server);
    let upstream = Upstream::new(vec![server.local_addr().expect("bound")]);
    let answering = async {
        let mut buffer = [0; 512];
        let (length, client) = server.recv_from(&mut buffer).await.expect("a question");
        let asked = Message::from_vec(&buffer[..length]).expect("a message");
        let mut right = asked.clone().into_response();
        right.add_answer(address("a.example.", 60, [1, 1, 1, 1]));
        let mut wrong_id = right.clone();
        wrong_id.metadata.id = wrong_id.metadata.id.wrapping_add(1);
        let mut wrong_name = right.clone();
        wrong_name.queries[0].set_name(name("b.example."));
        let mut no_answer = right.clone();
        no_answer.metadata.message_type = asked.metadata.message_type;
        let stranger = super::sockets().await.0;
        stranger.send_to(&right.to_vec().expect("bytes"), client).await.expect("sent");
        for message in [&wrong_id, &wrong_name, &no_answer, &right] {
            server.send_to(&message.to_vec().expect("bytes"), client).await.expect("sent");
        }
        server.send_to(b"x", client).await.expect("sent");
    };
    let name = name("a.example.");
    let (answer, ()) = tokio::join!(upstream.ask(&name, RecordType::A), answering);
    let answer = answer.expect("answered");
    assert_eq!((answer.queries[0].name(), answer.answers.len()), (&name, 1));
}
