//! Bytes that are no messages, and clients that take all they can get.

use std::net::Ipv4Addr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::super::answer::Answer;
use super::super::message::{self, Heard};
use super::{House, address, addresses, alias, by_tcp, code, name, question, send};

/// Numbers that look random and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).expect("64 bits") % below
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.next(256)).expect("below 256")
    }

    /// Random bytes, or a message with some bytes changed, some added and some cut.
    fn noise(&mut self, messages: &[Vec<u8>]) -> Vec<u8> {
        if self.next(4) == 0 {
            return (0..self.next(600)).map(|_| self.byte()).collect();
        }
        let mut bytes = messages[self.next(messages.len())].clone();
        for _ in 0..self.next(8) {
            let position = self.next(bytes.len());
            bytes[position] = self.byte();
        }
        if self.next(3) == 0 {
            bytes.truncate(self.next(bytes.len() + 1));
        }
        if self.next(5) == 0 {
            let added = self.next(40);
            bytes.extend((0..added).map(|_| self.byte()));
        }
        bytes
    }
}

fn messages() -> Vec<Vec<u8>> {
    let mut answer = question("www.example.org.", RecordType::A, Some(1232)).into_response();
    answer.add_answer(alias("www.example.org.", 5, "a.example."));
    answer.add_answer(address("a.example.", 5, [1, 1, 1, 1]));
    let mut all = vec![answer];
    for kind in
        [RecordType::A, RecordType::PTR, RecordType::ANY, RecordType::TXT, RecordType::HTTPS]
    {
        for owner in ["web.cove.internal.", "2.0.9.10.in-addr.arpa.", "www.example.org.", "."] {
            all.push(question(owner, kind, Some(4096)));
            all.push(question(owner, kind, None));
        }
    }
    all.iter().map(|message| message.to_vec().expect("a message")).collect()
}

#[test]
fn no_bytes_make_it_panic() {
    let messages = messages();
    let mut numbers = Numbers(0x5eed);
    for _ in 0..200_000 {
        let bytes = numbers.noise(&messages);
        match message::hear(&bytes) {
            Heard::Nothing => {}
            Heard::Wrong(reply) => {
                let reply = message::bytes(*reply, message::UDP_LIMIT);
                assert!(reply.is_none_or(|reply| reply[2] & 0x80 != 0));
            }
            Heard::Question(question) => {
                let reply = question.reply(ResponseCode::NoError);
                assert!(message::bytes(reply, question.udp_limit()).is_some());
            }
        }
        if let Ok(mut message) = Message::from_vec(&bytes) {
            let mut answer = Answer::of(&mut message, &name("www.example.org."), RecordType::A);
            answer.settle_ttl();
            let addresses = answer.addresses();
            answer.keep(&addresses);
        }
    }
}

#[tokio::test]
async fn noise_on_the_sockets_leaves_them_answering() {
    let house = House::new(|_, _, answer| {
        answer.add_answer(address("www.example.org.", 60, [1, 1, 1, 1]));
    });
    let house = house.await;
    let messages = messages();
    let mut numbers = Numbers(0xbad);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    for round in 0..60 {
        for _ in 0..40 {
            let noise = numbers.noise(&messages);
            socket.send_to(&noise, house.address).await.expect("sent");
        }
        let mut stream = TcpStream::connect(house.address).await.expect("connected");
        let noise = numbers.noise(&messages);
        if round % 2 == 0 {
            send(&mut stream, &noise).await;
        } else {
            stream.write_all(&noise).await.expect("sent");
        }
        stream.shutdown().await.expect("shut");
        // Whatever it said, it ends; a reset is an end too.
        drop(stream.read_to_end(&mut Vec::new()).await);
        // Noise may fill all places for questions, and a question by TCP waits for one.
        let good = question("web.cove.internal.", RecordType::A, None);
        assert_eq!(addresses(&by_tcp(house.address, &good).await), ["10.9.0.2"]);
    }
    assert_eq!(house.tasks.drain(std::time::Duration::from_secs(30)).await, 0);
}

#[tokio::test]
async fn silent_connections_leave_udp_answering_and_end_when_told_too_much() {
    let house = House::new(|_, _, _| ()).await;
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(TcpStream::connect(house.address).await.expect("connected"));
    }
    let answer = house.ask("web.cove.internal.", RecordType::A).await;
    assert_eq!(code(&answer), ResponseCode::NoError);
    let first = &mut silent[0];
    first.write_all(&u16::MAX.to_be_bytes()).await.expect("sent");
    assert_eq!(first.read(&mut [0; 1]).await.expect("ended"), 0, "too long to be a question");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_silent_is_ended() {
    let house = House::new(|_, _, _| ()).await;
    let mut stream = TcpStream::connect(house.address).await.expect("connected");
    stream.write_all(&[0]).await.expect("sent");
    assert_eq!(stream.read(&mut [0; 1]).await.expect("ended"), 0);
}
