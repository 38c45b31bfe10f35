//! Both ends of a forward, and ends that do not keep to the protocol.

use bytes::Bytes;
use tokio::io::{DuplexStream, duplex};

use super::*;

/// How much a pipe of these tests holds.
const PIPE: usize = 64 * 1024;

fn framed(stream: DuplexStream) -> Framed<DuplexStream, FrameCodec> {
    Framed::new(stream, FrameCodec::default())
}

/// The two programs at the ends, and how the two relays between them end.
fn joined() -> (DuplexStream, DuplexStream, impl Future<Output = [io::Result<()>; 2]>) {
    let (client, mut near) = duplex(PIPE);
    let (server, mut far) = duplex(PIPE);
    let (one, other) = duplex(PIPE);
    let both = async move {
        // As they are dropped in life: whoever has ended lets go of everything.
        let here = async move { relay(&mut framed(one), &mut near).await };
        let there = async move { relay(&mut framed(other), &mut far).await };
        let (here, there) = tokio::join!(here, there);
        [here, there]
    };
    (client, server, both)
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 7 % 251) as u8).collect()
}

#[tokio::test]
async fn both_directions_go_on_until_each_has_ended() {
    let (client, server, both) = joined();
    let (up, down) = (noise(3_000_000), noise(2_000_001));
    let talk = async |stream: DuplexStream, own: &[u8]| {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut got = Vec::new();
        let say = async {
            writer.write_all(own).await.expect("taken");
            writer.shutdown().await.expect("ended");
        };
        let (read, ()) = tokio::join!(reader.read_to_end(&mut got), say);
        read.expect("read");
        got
    };
    let (ends, at_client, at_server) = tokio::join!(both, talk(client, &up), talk(server, &down));
    assert!(ends.iter().all(Result::is_ok), "{ends:?}");
    assert!(at_client == down && at_server == up);
}

#[tokio::test]
async fn a_half_that_has_ended_does_not_end_the_other() {
    let (mut client, mut server, both) = joined();
    let talk = async {
        client.write_all(b"question").await.expect("taken");
        client.shutdown().await.expect("ended");
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.expect("its end arrives");
        assert_eq!(question, b"question");
        server.write_all(b"answer").await.expect("the other half is open");
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("read");
        assert_eq!(answer, b"answer");
    };
    let (ends, ()) = tokio::join!(both, talk);
    assert!(ends.iter().all(Result::is_ok), "{ends:?}");
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_the_writer_and_not_the_other_direction() {
    let (mut client, mut server, both) = joined();
    let talk = async {
        let sent = async {
            let piece = vec![7; 1024];
            let mut sent = 0;
            while let Ok(written) = client.write(&piece).await {
                sent += written;
                if sent > 4 * WINDOW {
                    break;
                }
                // The pipe is full when nothing else can go on.
                tokio::task::yield_now().await;
            }
            sent
        };
        let stuck = tokio::time::timeout(Duration::from_millis(300), sent).await;
        assert!(stuck.is_err(), "{stuck:?} bytes are held somewhere");
        server.write_all(b"all the same").await.expect("taken");
        let mut got = [0; 12];
        client.read_exact(&mut got).await.expect("read");
        assert_eq!(&got, b"all the same");
    };
    tokio::select! {
        ends = both => panic!("{ends:?}"),
        () = talk => {}
    }
}

#[tokio::test]
async fn an_end_that_breaks_off_ends_the_other() {
    for cut in [true, false] {
        let (client, mut near) = duplex(PIPE);
        let (one, other) = duplex(PIPE);
        let mut peer = framed(other);
        peer.send(Frame::Data(Bytes::from_static(b"half"))).await.expect("sent");
        if !cut {
            peer.send(Frame::DataEnd).await.expect("sent");
        }
        drop(peer);
        let error = relay(&mut framed(one), &mut near).await.expect_err("it was cut off");
        let kinds = [io::ErrorKind::UnexpectedEof, io::ErrorKind::BrokenPipe];
        assert!(kinds.contains(&error.kind()), "{error}");
        drop(client);
    }
}

#[tokio::test]
async fn an_end_that_lies_is_an_error() {
    let data = |bytes: usize| Frame::Data(vec![0; bytes].into());
    let taken = |taken: u32| Frame::control(&Taken { taken }).expect("fits");
    for hostile in [
        vec![data(PIPE), data(WINDOW)],
        vec![data(WINDOW + 1)],
        vec![data(0)],
        vec![taken(0)],
        vec![taken(1)],
        vec![taken(u32::MAX)],
        vec![Frame::DataEnd, Frame::DataEnd],
        vec![Frame::DataEnd, data(1)],
        vec![Frame::Stdin(Bytes::new())],
        vec![Frame::Control(Bytes::from_static(b"[]"))],
    ] {
        let (_client, mut near) = duplex(16);
        let (one, other) = duplex(16 * WINDOW);
        let mut peer = framed(other);
        for frame in hostile.clone() {
            peer.send(frame).await.expect("sent");
        }
        let error = relay(&mut framed(one), &mut near).await.expect_err("refused");
        assert!(matches!(error.kind(), io::ErrorKind::InvalidData), "{hostile:?}: {error}");
    }
}

#[tokio::test]
async fn the_agents_word_is_waited_for() {
    let refused =
        Reply::ConnectFailed { reason: ConnectFailure::Refused, message: "nobody".to_owned() };
    for (reply, expected) in [
        (Reply::Connected, None),
        (refused, Some("nobody")),
        (Reply::Failed { step: "a".into(), message: "b".into() }, Some("a: b")),
        (Reply::Done, Some("the connection to the guest's agent failed")),
    ] {
        let (one, other) = duplex(PIPE);
        framed(other).send(Frame::control(&reply).expect("fits")).await.expect("sent");
        let opened = opened(&mut framed(one)).await.map_err(|error| error.to_string());
        assert_eq!(opened.err().as_deref(), expected);
    }
}
