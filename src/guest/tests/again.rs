//! Programs one after the other on one connection, and what must not get from one to the next.

use bytes::BytesMut;
use tokio_util::codec::Encoder;

use super::exec::{Outcome, exec, finish, run, shell, take};
use super::*;
use crate::agent::handshake;
use crate::id::ExecId;
use crate::wire::guest::{CopyDirection, CopyFiles};

/// How a program ends that has nothing to complain of.
const WELL: Option<Result<ExecStatus, ExecFailure>> = Some(Ok(ExecStatus::Exited(0)));

/// Runs until it is hung up on, and leaves a file then. Quiet, because nobody reads any more what the shell says of
/// its killed child.
const UNTIL_GONE: &str = "trap 'echo gone > heard; exit' HUP; echo up; exec >/dev/null 2>&1; \
                          while :; do sleep 0.01; done";

/// Waits until that has been hung up on.
async fn hung_up(guest: &Guest) {
    let wait = shell("while ! [ -s heard ]; do sleep 0.01; done; rm heard");
    assert_eq!(run(guest, &wait).await.end, WELL);
}

pub(super) fn wire(frame: io::Result<Frame>) -> Vec<u8> {
    let mut wire = BytesMut::new();
    FrameCodec::default().encode(frame.expect("JSON"), &mut wire).expect("encodes");
    wire.to_vec()
}

/// Reads to a program's end, and leaves its connection open.
async fn to_the_end(frames: &mut Frames) -> Outcome {
    let mut outcome = Outcome::default();
    while outcome.end.is_none() {
        take(frames, &mut outcome).await;
    }
    outcome
}

/// Runs a program as a host does that passes on what it is given, and reads to its end.
async fn unguarded(guest: &Guest, exec: Exec) -> Frames {
    let mut frames = guest.agent.request(&Request::Exec(exec)).await.expect("answers");
    to_the_end(&mut frames).await;
    frames
}

#[tokio::test]
async fn programs_one_after_the_other_need_one_connection() {
    for device in [straight, one_way_at_a_time as Device] {
        let guest = Guest::ready_behind(device).await;
        let before = guest.dialed();
        for (script, out, err, status) in [
            ("echo out; echo err >&2", "out\n", "err\n", 0),
            ("exit 7", "", "", 7),
            ("head -c 300000 /dev/zero | wc -c", "300000\n", "", 0),
            ("echo last >&2", "", "last\n", 0),
        ] {
            let outcome = run(&guest, &shell(script)).await;
            assert_eq!((outcome.text().as_str(), outcome.err.as_slice()), (out, err.as_bytes()));
            assert_eq!(outcome.end, Some(Ok(ExecStatus::Exited(status))), "{script}");
        }
        let size = TtySize { cols: 100, rows: 40 };
        let terminal = run(&guest, &Exec { tty: Some(size), ..shell("stty size") }).await;
        assert_eq!((terminal.text().as_str(), terminal.end), ("40 100\r\n", WELL));
        assert_eq!(guest.dialed() - before, 1);
    }
}

#[tokio::test]
async fn a_program_that_is_not_started_leaves_its_connection_as_well() {
    let guest = Guest::new();
    for _ in 0..2 {
        let early = run(&guest, &shell("true")).await;
        assert_eq!(early.end, Some(Err(ExecFailure::Other)));
    }
    assert_eq!(guest.dialed(), 1);
    guest.agent.set_up(setup("web"), WorkDiskPlan::default()).await.expect("set up");
    let missing = run(&guest, &exec(&["no-such-program"])).await;
    assert_eq!(missing.end, Some(Err(ExecFailure::NotFound)));
    assert_eq!(run(&guest, &shell("true")).await.end, WELL);
    assert_eq!(guest.dialed(), 2, "the set-up had one of its own");
}

#[tokio::test]
async fn what_comes_too_late_for_a_program_does_not_reach_the_next() {
    let guest = Guest::ready().await;
    let before = guest.dialed();
    let mut first = guest.agent.exec(&shell("true")).await.expect("answers").framed();
    to_the_end(&mut first).await;
    first.send(Frame::Stdin("late".into())).await.expect("sent");
    let signal = ExecInput::Signal { signal: 15 };
    send(&mut first, Frame::control(&signal)).await.expect("sent");
    first.send(Frame::StdinEnd).await.expect("sent");
    drop(first);

    let mut second = guest.agent.exec(&exec(&["cat"])).await.expect("answers").framed();
    second.send(Frame::Stdin("mine".into())).await.expect("sent");
    second.send(Frame::StdinEnd).await.expect("sent");
    let outcome = finish(second).await;
    assert_eq!((outcome.text().as_str(), outcome.end), ("mine", WELL));
    assert_eq!(guest.dialed() - before, 1);
}

#[tokio::test]
async fn a_connection_on_which_something_is_under_way_is_not_used_again() {
    let guest = Guest::ready().await;
    let before = guest.dialed();
    // In the middle of what the client says.
    let mut stream = guest.agent.exec(&shell("true")).await.expect("answers");
    stream.write_all(&[0, 0, 0]).await.expect("written");
    stream.read_to_end(&mut Vec::new()).await.expect("an end");
    drop(stream);
    // In the middle of the program, by going away and by closing one direction.
    for goes in [true, false] {
        let mut frames = guest.agent.exec(&shell(UNTIL_GONE)).await.expect("answers").framed();
        let mut outcome = Outcome::default();
        while outcome.out != b"up\n" {
            take(&mut frames, &mut outcome).await;
        }
        if goes {
            drop(frames);
        } else {
            frames.get_mut().shutdown().await.expect("closed");
            next(&mut frames).await.expect_err("the agent closes it as well");
        }
        hung_up(&guest).await;
    }
    // The first of those that waited left the connection that the second one took.
    assert_eq!(guest.dialed() - before, 4);
}

#[tokio::test]
async fn a_client_cannot_put_a_request_behind_its_program() {
    let guest = Guest::ready().await;
    let request = wire(Frame::request(&Request::PowerOff));
    for cut in [1, 4, 5, request.len()] {
        let mut stream = guest.agent.exec(&shell(UNTIL_GONE)).await.expect("answers");
        let mut seen = Vec::new();
        while !seen.ends_with(b"up\n") {
            seen.push(stream.read_u8().await.expect("more comes"));
        }
        let mut refused = None;
        for piece in request.chunks(cut) {
            refused = refused.or(stream.write_all(piece).await.err());
        }
        let refused = refused.expect("nothing of a request gets through").to_string();
        assert_eq!(refused, "a client may not send a request frame here", "{cut}");
        drop(stream);
        hung_up(&guest).await;
    }

    let mut ended = guest.agent.exec(&shell("true")).await.expect("answers");
    ended.read_to_end(&mut Vec::new()).await.expect("an end");
    let out = CopyFiles { path: "file".to_owned(), direction: CopyDirection::Out };
    let streams = [
        ended,
        guest.agent.attach(&ExecId::random()).await.expect("answers"),
        guest.agent.connect(1).await.expect("answers"),
        guest.agent.copy(&out).await.expect("answers"),
    ];
    for mut stream in streams {
        let refused = stream.write_all(&request).await.expect_err("nothing gets through");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }
    assert_eq!(run(&guest, &shell("true")).await.end, WELL);
    assert!(!guest.off.load(Ordering::SeqCst));
}

#[tokio::test]
async fn the_agent_takes_no_request_before_a_programs_end() {
    let guest = Guest::ready().await;
    let wanted = Request::Exec(shell(UNTIL_GONE));
    let mut frames = guest.agent.request(&wanted).await.expect("answers");
    let mut outcome = Outcome::default();
    while outcome.out != b"up\n" {
        take(&mut frames, &mut outcome).await;
    }
    send(&mut frames, Frame::request(&Request::PowerOff)).await.expect("sent");
    let closed = timeout(SHORT, next(&mut frames)).await.expect("in time");
    closed.expect_err("it has nothing to answer");
    hung_up(&guest).await;
    assert!(!guest.off.load(Ordering::SeqCst));
}

#[tokio::test]
async fn the_agent_takes_any_request_behind_a_programs_end_and_nothing_else() {
    let guest = Guest::ready().await;
    let mut frames = unguarded(&guest, shell("true")).await;
    send(&mut frames, Frame::request(&Request::Health)).await.expect("sent");
    let health = reply(&mut frames, "say how it is", SHORT).await.expect("answers");
    assert!(matches!(health, Reply::Health(_)), "{health:?}");

    let mut frames = unguarded(&guest, shell("true")).await;
    frames.send(Frame::Stdout("no".into())).await.expect("sent");
    let closed = timeout(SHORT, next(&mut frames)).await.expect("in time");
    closed.expect_err("it has nothing to answer");
}

#[tokio::test]
async fn no_more_connections_are_kept_than_may_be() {
    let guest = Guest::ready().await;
    let before = guest.dialed();
    for dialed in [3, 4] {
        let mut running = Vec::new();
        for _ in 0..3 {
            let stream = guest.agent.exec(&shell("true")).await.expect("answers");
            running.push(stream.framed());
        }
        for frames in &mut running {
            assert_eq!(to_the_end(frames).await.end, WELL);
        }
        drop(running);
        assert_eq!(guest.dialed() - before, dialed);
    }
}

/// What an agent does after a program's end.
#[derive(Clone, Copy)]
enum After {
    /// It closes the connection.
    Close,
    /// It listens, and says nothing.
    Silence,
}

/// An agent whose programs end well at once, each connection's first one.
fn scripted(folder: &Path, after: After) -> Agent {
    let (key, tasks) = (BootKey::random(), Tasks::default());
    let agent = Agent::new(dial(folder), key.clone(), BootId::random());
    let serving = tasks.clone();
    listen(folder, &tasks, move |stream| {
        let key = key.clone();
        serving.spawn("script", async move {
            let mut frames = Framed::new(stream, FrameCodec::default());
            handshake::accept(&mut frames, &key).await.expect("a request");
            let ended = Reply::ExecEnded(ExecStatus::Exited(0));
            for said in [Reply::ExecStarted { pid: 7 }, ended] {
                say(&mut frames, &said).await;
            }
            match after {
                After::Close => {}
                After::Silence => while frames.next().await.is_some() {},
            }
        });
    });
    agent
}

async fn say(frames: &mut Framed<UnixStream, FrameCodec>, said: &Reply) {
    frames.send(Frame::control(said).expect("JSON")).await.expect("sent");
}

#[tokio::test]
async fn a_connection_that_the_agent_has_closed_is_not_used() {
    let folder = tempfile::tempdir().expect("tempdir");
    let agent = scripted(folder.path(), After::Close);
    for _ in 0..3 {
        let frames = agent.exec(&exec(&["true"])).await.expect("answers").framed();
        assert_eq!(finish(frames).await.end, WELL);
    }
}

#[tokio::test]
async fn a_request_that_is_not_answered_on_a_kept_connection_is_not_sent_again() {
    let folder = tempfile::tempdir().expect("tempdir");
    let agent = scripted(folder.path(), After::Silence);
    let frames = agent.exec(&exec(&["true"])).await.expect("answers").framed();
    assert_eq!(finish(frames).await.end, WELL);
    // On a new connection it would be answered.
    tokio::time::pause();
    let mut frames = agent.exec(&exec(&["true"])).await.expect("sent").framed();
    let error = next(&mut frames).await.expect_err("nothing is said");
    assert_eq!(error.to_string(), "the guest has said nothing for 60 s");
    tokio::time::resume();
    let frames = agent.exec(&exec(&["true"])).await.expect("answers").framed();
    assert_eq!(finish(frames).await.end, WELL);
    let out = CopyFiles { path: "file".to_owned(), direction: CopyDirection::Out };
    tokio::time::pause();
    let mut frames = agent.copy(&out).await.expect("sent").framed();
    let error = next(&mut frames).await.expect_err("nothing is said");
    assert_eq!(error.to_string(), "the guest has said nothing for 60 s");
}
