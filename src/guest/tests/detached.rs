//! Programs that run with nobody there: what is kept of them, and those who attach and leave.

use bytes::Bytes;

use super::exec::{exec, shell};
use super::*;
use crate::id::ExecId;
use crate::wire::guest::{
    Attached, Detach, DetachOutcome, DetachedState, DetachedStdin, Exec, MAX_DETACHED,
};
use crate::wire::window::STDIN_WINDOW;

/// What one who attached has seen.
struct Seen {
    frames: Frames,
    found: Attached,
    out: Vec<u8>,
    err: Vec<u8>,
    end: Option<Result<ExecStatus, String>>,
}

impl Seen {
    async fn attach(guest: &Guest, id: &ExecId) -> Self {
        let mut frames = guest.agent.attach(id).await.expect("answers").framed();
        let Reply::ExecAttached(found) = reply(&mut frames, "attach", SHORT).await.expect("found")
        else {
            panic!("attached");
        };
        Self { frames, found, out: Vec::new(), err: Vec::new(), end: None }
    }

    /// Takes one frame.
    async fn take(&mut self) {
        let frame = timeout(SHORT, next(&mut self.frames)).await.expect("in time");
        match frame.expect("a frame") {
            Frame::Stdout(bytes) => self.out.extend_from_slice(&bytes),
            Frame::Stderr(bytes) => self.err.extend_from_slice(&bytes),
            message => match message.message().expect("a reply") {
                Reply::StdinTaken { bytes } => assert!(bytes > 0),
                Reply::ExecEnded(status) => self.end = Some(Ok(status)),
                Reply::Failed { message, .. } => self.end = Some(Err(message)),
                other => panic!("{other:?}"),
            },
        }
    }

    async fn until_prints(mut self, text: &str) -> Self {
        while !String::from_utf8_lossy(&self.out).contains(text) {
            self.take().await;
        }
        self
    }

    async fn ended(mut self) -> Self {
        while self.end.is_none() {
            self.take().await;
        }
        self
    }

    async fn say(&mut self, frame: Frame) {
        self.frames.send(frame).await.expect("sent");
    }
}

async fn try_detach(guest: &Guest, exec: Exec, stdin: DetachedStdin) -> DetachOutcome {
    guest.agent.detach(Detach { exec, stdin }).await.expect("answers")
}

async fn detach(guest: &Guest, exec: Exec, stdin: DetachedStdin) -> ExecId {
    match try_detach(guest, exec, stdin).await {
        DetachOutcome::Started { id, pid } => {
            assert!(pid > 0);
            id
        }
        DetachOutcome::NotStarted { message, .. } => panic!("{message}"),
    }
}

async fn state(guest: &Guest, id: &ExecId) -> (DetachedState, bool) {
    let told = guest.agent.detached().await.expect("told");
    let program = told.programs.into_iter().find(|program| program.id == *id).expect("listed");
    (program.state, program.attached)
}

/// Waits until a program is so, and whether somebody is attached to it.
async fn until(guest: &Guest, id: &ExecId, wanted: (DetachedState, bool)) {
    let is = async { while state(guest, id).await != wanted {} };
    timeout(SHORT, is).await.expect("in time");
}

#[tokio::test]
async fn it_outlives_who_started_it_and_who_left_and_its_output_stays() {
    let guest = Guest::ready().await;
    let script =
        "echo out; echo err >&2; while ! [ -e go ]; do sleep 0.01; done; echo late; exit 7";
    let id = detach(&guest, shell(script), DetachedStdin::Ended).await;
    let first = Seen::attach(&guest, &id).await.until_prints("out\n").await;
    until(&guest, &id, (DetachedState::Running, true)).await;
    drop(first);
    until(&guest, &id, (DetachedState::Running, false)).await;
    let second = Seen::attach(&guest, &id).await;
    assert_eq!((second.found.lost, second.found.tty), (0, false));
    fs::write(guest.home().join("go"), "").expect("written");
    let second = second.ended().await;
    assert_eq!(second.end, Some(Ok(ExecStatus::Exited(7))));
    assert_eq!(
        (second.out.as_slice(), second.err.as_slice()),
        (&b"out\nlate\n"[..], &b"err\n"[..])
    );
    drop(second.frames);
    until(&guest, &id, (DetachedState::Exited(7), false)).await;
    let late = Seen::attach(&guest, &id).await.ended().await;
    assert_eq!(
        (late.out.as_slice(), late.end),
        (&b"out\nlate\n"[..], Some(Ok(ExecStatus::Exited(7))))
    );
}

#[tokio::test]
async fn what_cannot_be_started_is_told_at_once_and_not_listed() {
    let guest = Guest::new();
    let early = try_detach(&guest, shell("true"), DetachedStdin::Ended).await;
    assert!(matches!(early, DetachOutcome::NotStarted { reason: ExecFailure::Other, .. }));
    let guest = Guest::ready().await;
    fs::write(guest.home().join("plain"), "x").expect("written");
    let plain = guest.home().join("plain").to_string_lossy().into_owned();
    for (program, expected) in
        [("no-such-program", ExecFailure::NotFound), (plain.as_str(), ExecFailure::NotExecutable)]
    {
        match try_detach(&guest, exec(&[program]), DetachedStdin::Ended).await {
            DetachOutcome::NotStarted { reason, .. } => assert_eq!(reason, expected),
            DetachOutcome::Started { .. } => panic!("{program} cannot be started"),
        }
    }
    assert!(guest.agent.detached().await.expect("told").programs.is_empty());
    let unknown = ExecId::random();
    let mut frames = guest.agent.attach(&unknown).await.expect("answers").framed();
    let error = reply(&mut frames, "attach", SHORT).await.expect_err("unknown").to_string();
    assert!(error.contains(unknown.as_str()), "{error}");
}

#[tokio::test]
async fn with_nobody_there_it_never_waits_and_what_was_dropped_is_counted() {
    let guest = Guest::ready().await;
    let script = shell("head -c 3000000 /dev/zero; echo end");
    let id = detach(&guest, script, DetachedStdin::Ended).await;
    until(&guest, &id, (DetachedState::Exited(0), false)).await;
    let seen = Seen::attach(&guest, &id).await.ended().await;
    assert!(seen.found.lost > 0 && seen.out.ends_with(b"end\n"));
    assert_eq!(seen.found.lost + seen.out.len() as u64, 3_000_004);
}

#[tokio::test]
async fn it_waits_for_one_who_is_attached_and_reads_slowly() {
    let guest = Guest::ready().await;
    let script = "while ! [ -e go ]; do sleep 0.01; done; head -c 20000000 /dev/zero";
    let id = detach(&guest, shell(script), DetachedStdin::Ended).await;
    let seen = Seen::attach(&guest, &id).await;
    fs::write(guest.home().join("go"), "").expect("written");
    // Long enough for one that does not wait to be through.
    for _ in 0..200 {
        assert_eq!(state(&guest, &id).await, (DetachedState::Running, true));
    }
    let seen = seen.ended().await;
    assert_eq!((seen.found.lost, seen.out.len()), (0, 20_000_000));
}

#[tokio::test]
async fn who_comes_last_has_the_place() {
    let guest = Guest::ready().await;
    let id = detach(&guest, shell("echo up; exec sleep 60"), DetachedStdin::Ended).await;
    let first = Seen::attach(&guest, &id).await.until_prints("up\n").await;
    let mut second = Seen::attach(&guest, &id).await.until_prints("up\n").await;
    let first = first.ended().await;
    assert!(first.end.is_some_and(|end| end.is_err_and(|why| why.contains("another client"))));
    drop(first.frames);
    let signal = ExecInput::Signal { signal: 9 };
    second.say(Frame::control(&signal).expect("fits")).await;
    assert_eq!(second.ended().await.end, Some(Ok(ExecStatus::Signalled(9))));
}

#[tokio::test]
async fn an_open_input_takes_what_all_send_who_attach() {
    let guest = Guest::ready().await;
    let deaf = detach(&guest, exec(&["cat"]), DetachedStdin::Ended).await;
    until(&guest, &deaf, (DetachedState::Exited(0), false)).await;
    let open = detach(&guest, exec(&["cat"]), DetachedStdin::Open).await;
    let mut first = Seen::attach(&guest, &open).await;
    first.say(Frame::Stdin(Bytes::from_static(b"a\n"))).await;
    drop(first.until_prints("a\n").await);
    let mut second = Seen::attach(&guest, &open).await;
    second.say(Frame::Stdin(Bytes::from_static(b"b\n"))).await;
    second.say(Frame::StdinEnd).await;
    // Nobody reads any more; it is no error.
    second.say(Frame::Stdin(Bytes::from_static(b"c\n"))).await;
    let second = second.ended().await;
    assert_eq!(
        (second.out.as_slice(), second.end),
        (&b"a\nb\n"[..], Some(Ok(ExecStatus::Exited(0))))
    );
}

#[tokio::test]
async fn input_that_waits_takes_room_of_the_next_and_a_client_gone_wild_ends_only_itself() {
    let guest = Guest::ready().await;
    let id = detach(&guest, exec(&["sleep", "60"]), DetachedStdin::Open).await;
    let mut first = Seen::attach(&guest, &id).await;
    for _ in 0..STDIN_WINDOW / MAX {
        first.say(Frame::Stdin(vec![0; MAX].into())).await;
    }
    drop(first.frames);
    until(&guest, &id, (DetachedState::Running, false)).await;
    let mut second = Seen::attach(&guest, &id).await;
    let waiting = second.found.stdin_waiting as usize;
    // What a pipe holds was taken.
    assert!(waiting > 0 && waiting <= STDIN_WINDOW, "{waiting}");
    for _ in 0..=STDIN_WINDOW / MAX {
        // The agent may have closed it already.
        second.frames.send(Frame::Stdin(vec![0; MAX].into())).await.ok();
    }
    let closed = async { while let Some(Ok(_)) = second.frames.next().await {} };
    timeout(SHORT, closed).await.expect("it is closed");
    let mut third = Seen::attach(&guest, &id).await;
    third.say(Frame::Control(Bytes::from_static(b"{}"))).await;
    let closed = async { while let Some(Ok(_)) = third.frames.next().await {} };
    timeout(SHORT, closed).await.expect("it is closed");
    let mut last = Seen::attach(&guest, &id).await;
    last.say(Frame::control(&ExecInput::Signal { signal: 15 }).expect("fits")).await;
    assert_eq!(last.ended().await.end, Some(Ok(ExecStatus::Signalled(15))));
}

#[tokio::test]
async fn a_terminal_stays_open_whoever_comes_and_goes() {
    let guest = Guest::ready().await;
    let size = Some(TtySize { cols: 100, rows: 40 });
    let script = "trap 'stty size; exit 5' WINCH; stty size; while :; do sleep 0.01; done";
    let terminal = Exec { tty: size, ..shell(script) };
    let id = detach(&guest, terminal, DetachedStdin::Ended).await;
    let mut first = Seen::attach(&guest, &id).await.until_prints("40 100\r\n").await;
    assert!(first.found.tty);
    // The end of one client's input is not the end of the terminal's.
    first.say(Frame::StdinEnd).await;
    drop(first.frames);
    let mut second = Seen::attach(&guest, &id).await;
    let resize = ExecInput::Resize { size: TtySize { cols: 80, rows: 24 } };
    second.say(Frame::control(&resize).expect("fits")).await;
    let second = second.ended().await;
    assert_eq!(second.end, Some(Ok(ExecStatus::Exited(5))));
    assert_eq!(String::from_utf8_lossy(&second.out), "40 100\r\n24 80\r\n");
}

#[tokio::test]
async fn there_are_only_so_many_and_the_ended_make_room() {
    let guest = Guest::ready().await;
    let mut ids = Vec::new();
    for _ in 0..MAX_DETACHED {
        ids.push(detach(&guest, exec(&["sleep", "60"]), DetachedStdin::Ended).await);
    }
    let refused = try_detach(&guest, exec(&["true"]), DetachedStdin::Ended).await;
    let DetachOutcome::NotStarted { reason: ExecFailure::Other, message } = refused else {
        panic!("one too many");
    };
    assert!(message.contains("64 detached commands"), "{message}");
    let mut second = Seen::attach(&guest, &ids[1]).await;
    second.say(Frame::control(&ExecInput::Signal { signal: 9 }).expect("fits")).await;
    second.ended().await;
    let more = detach(&guest, exec(&["true"]), DetachedStdin::Ended).await;
    let told = guest.agent.detached().await.expect("told").programs;
    assert_eq!(told.len(), MAX_DETACHED);
    assert_eq!((&told[0].id, &told[1].id), (&ids[0], &ids[2]), "the ended one is forgotten");
    assert_eq!(told.last().map(|last| &last.id), Some(&more));
    assert_eq!(told[0].command, "sleep 60");
    for program in told.iter().filter(|program| program.state == DetachedState::Running) {
        let pid = nix::unistd::Pid::from_raw(program.pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
    }
}
