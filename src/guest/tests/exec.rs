//! Programs in a guest: streams apart, exit statuses, signals.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;
use crate::wire::window::{STDIN_WINDOW, StdinWindow};

/// What became of a program.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) out: Vec<u8>,
    pub(super) err: Vec<u8>,
    pub(super) end: Option<Result<ExecStatus, ExecFailure>>,
}

impl Outcome {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

pub(super) fn exec(argv: &[&str]) -> Exec {
    Exec {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: Vec::new(),
        cwd: None,
        tty: None,
    }
}

pub(super) fn shell(script: &str) -> Exec {
    exec(&["/bin/sh", "-c", script])
}

pub(super) async fn take(frames: &mut Frames, outcome: &mut Outcome) {
    let frame = timeout(SHORT, next(frames)).await.expect("in time").expect("a frame");
    match frame {
        Frame::Stdout(bytes) => outcome.out.extend_from_slice(&bytes),
        Frame::Stderr(bytes) => outcome.err.extend_from_slice(&bytes),
        message => match message.message().expect("a reply") {
            Reply::ExecStarted { pid } => assert!(pid > 0),
            Reply::StdinTaken { bytes } => assert!(bytes > 0),
            Reply::ExecFailed { reason, message } => {
                assert!(!message.is_empty());
                outcome.end = Some(Err(reason));
            }
            Reply::ExecEnded(status) => outcome.end = Some(Ok(status)),
            other => panic!("{other:?}"),
        },
    }
}

pub(super) async fn finish(mut frames: Frames) -> Outcome {
    let mut outcome = Outcome::default();
    while outcome.end.is_none() {
        take(&mut frames, &mut outcome).await;
    }
    outcome
}

pub(super) async fn run(guest: &Guest, exec: &Exec) -> Outcome {
    finish(guest.agent.exec(exec).await.expect("answers").framed()).await
}

#[tokio::test]
async fn a_program_is_the_first_that_can_be_run_in_the_path_of_its_own() {
    use std::os::unix::fs::PermissionsExt as _;

    let guest = Guest::ready().await;
    let at = |path: &str| guest.home().join(path);
    for (place, text) in [("broken", "#!/nowhere/sh"), ("own", "#!/bin/sh\necho own")] {
        fs::create_dir(at(place)).expect("made");
        let place = at(place).join("greet");
        fs::write(&place, text).expect("written");
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).expect("set");
    }
    let [broken, own] = ["broken", "own"].map(|path| at(path).display().to_string());
    let path = |path: &str| ("PATH".to_owned(), format!("{path}:/bin:/usr/bin"));
    for env in
        [vec![path(&own)], vec![path("/x"), path(&own)], vec![path(&format!("{broken}:{own}"))]]
    {
        let greeted = run(&guest, &Exec { env: env.clone(), ..exec(&["greet"]) }).await;
        assert_eq!(
            (greeted.text().as_str(), greeted.end),
            ("own\n", Some(Ok(ExecStatus::Exited(0)))),
            "{env:?}"
        );
    }
    let named = run(&guest, &exec(&["sh", "-c", "tr '\\0' ' ' < /proc/$$/cmdline"])).await;
    assert!(named.text().starts_with("sh -c "), "{}", named.text());
    let missing = run(&guest, &Exec { env: vec![path(&broken)], ..exec(&["greet"]) }).await;
    assert_eq!(missing.end, Some(Err(ExecFailure::NotFound)));
}

#[tokio::test]
async fn a_program_ends_as_it_ended() {
    let guest = Guest::ready().await;
    fs::write(guest.home().join("plain"), "x").expect("written");
    fs::write(guest.home().join("folder"), "x").expect("written");
    let home = guest.home().to_string_lossy().into_owned();
    let plain = format!("{home}/plain");
    let missing_cwd = Exec { cwd: Some("nowhere".to_owned()), ..shell("true") };
    let file_cwd = Exec { cwd: Some("plain".to_owned()), ..shell("true") };
    let bad_env = Exec { env: vec![("A=B".to_owned(), String::new())], ..shell("true") };
    let cases = [
        (shell("exit 42"), Ok(ExecStatus::Exited(42))),
        (shell("exit 255"), Ok(ExecStatus::Exited(255))),
        (shell("kill -9 $$"), Ok(ExecStatus::Signalled(9))),
        (exec(&["true"]), Ok(ExecStatus::Exited(0))),
        (exec(&["no-such-program"]), Err(ExecFailure::NotFound)),
        (exec(&["/no/such/program"]), Err(ExecFailure::NotFound)),
        (exec(&[""]), Err(ExecFailure::NotFound)),
        (exec(&[&plain]), Err(ExecFailure::NotExecutable)),
        (exec(&[&home]), Err(ExecFailure::NotExecutable)),
        (exec(&["a\0b"]), Err(ExecFailure::Other)),
        (missing_cwd, Err(ExecFailure::Other)),
        (file_cwd, Err(ExecFailure::Other)),
        (bad_env, Err(ExecFailure::Other)),
    ];
    for (exec, expected) in cases {
        assert_eq!(run(&guest, &exec).await.end, Some(expected), "{exec:?}");
    }
}

#[tokio::test]
async fn arguments_arrive_unchanged() {
    let guest = Guest::ready().await;
    let awkward = ["", " ", "a b", "\"q\"", "'", "$HOME", "*", "new\nline", "ä→", "-n", "\\"];
    let mut argv = vec!["printf", "%s\\0"];
    argv.extend(awkward);
    let printed = run(&guest, &exec(&argv)).await;
    assert_eq!(printed.text().split_terminator('\0').collect::<Vec<_>>(), awkward);
}

#[tokio::test]
async fn environment_and_folder_are_a_logins_with_what_was_asked() {
    let guest = Guest::ready().await;
    let env = vec![("X".to_owned(), "1\n2".to_owned()), ("LANG".to_owned(), "C".to_owned())];
    let outcome = run(&guest, &Exec { env, ..exec(&["env", "-0"]) }).await;
    let mut lines: Vec<_> =
        outcome.out.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    lines.sort();
    let home = guest.home().to_string_lossy().into_owned();
    assert_eq!(
        lines,
        [
            String::new(),
            format!("HOME={home}"),
            "LANG=C".to_owned(),
            "LOGNAME=root".to_owned(),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            "SHELL=/bin/sh".to_owned(),
            "USER=root".to_owned(),
            "X=1\n2".to_owned(),
        ]
    );
    fs::create_dir(guest.home().join("repo")).expect("made");
    for (cwd, expected) in
        [(None, home.clone()), (Some("repo"), format!("{home}/repo")), (Some("/"), "/".to_owned())]
    {
        let cwd = cwd.map(str::to_owned);
        let outcome = run(&guest, &Exec { cwd, ..exec(&["pwd"]) }).await;
        assert_eq!(outcome.text().trim_end(), expected);
    }
}

#[tokio::test]
async fn streams_stay_apart_and_push_back() {
    let guest = Guest::ready().await;
    let outcome = run(&guest, &shell("echo out; echo err >&2")).await;
    assert_eq!((outcome.out.as_slice(), outcome.err.as_slice()), (&b"out\n"[..], &b"err\n"[..]));

    let outcome = run(&guest, &shell("head -c 20000000 /dev/zero")).await;
    assert_eq!(outcome.out.len(), 20_000_000);
}

/// Sends `bytes` to a program's input as its window allows, and reads until the program has ended.
async fn converse(frames: Frames, bytes: Bytes) -> Outcome {
    let (mut sink, mut stream) = frames.split();
    let (opened, mut taken) = mpsc::channel(1024);
    let feed = async {
        let mut window = StdinWindow::default();
        let mut left = bytes;
        while !left.is_empty() {
            let piece = left.split_to(left.len().min(MAX));
            while !window.fits(piece.len()) {
                window.taken(taken.recv().await.expect("a word")).expect("no more than was sent");
            }
            window.sent(piece.len());
            sink.send(Frame::Stdin(piece)).await.expect("sent");
        }
        sink.send(Frame::StdinEnd).await.expect("sent");
    };
    let read = async {
        let mut outcome = Outcome::default();
        while let Some(Ok(frame)) = stream.next().await {
            match frame {
                Frame::Stdout(bytes) => outcome.out.extend_from_slice(&bytes),
                message => match message.message().expect("a reply") {
                    Reply::StdinTaken { bytes } => opened.try_send(bytes).expect("few of them"),
                    Reply::ExecEnded(status) => {
                        outcome.end = Some(Ok(status));
                        return outcome;
                    }
                    started => assert!(matches!(started, Reply::ExecStarted { .. })),
                },
            }
        }
        outcome
    };
    timeout(LONG, async { tokio::join!(feed, read).1 }).await.expect("no stand-still")
}

fn noise() -> Bytes {
    (0..20_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect()
}

#[tokio::test]
async fn what_goes_in_comes_out_whole() {
    let guest = Guest::ready().await;
    let frames = guest.agent.exec(&exec(&["cat"])).await.expect("answers").framed();
    let outcome = converse(frames, noise()).await;
    assert_eq!(outcome.end, Some(Ok(ExecStatus::Exited(0))));
    assert!(outcome.out == noise(), "every byte came back");
}

#[tokio::test]
async fn a_device_that_writes_only_when_nothing_waits_to_be_read_brings_nothing_to_a_stand_still() {
    let guest = Guest::ready_behind(one_way_at_a_time).await;
    let frames = guest.agent.exec(&exec(&["cat"])).await.expect("answers").framed();
    let outcome = converse(frames, noise()).await;
    assert_eq!(outcome.end, Some(Ok(ExecStatus::Exited(0))));
    assert!(outcome.out == noise(), "every byte came back");
}

#[tokio::test]
async fn input_that_nobody_reads_is_taken() {
    let guest = Guest::ready().await;
    let script = shell("exec <&-; sleep 0.3; exit 9");
    let frames = guest.agent.exec(&script).await.expect("answers").framed();
    assert_eq!(converse(frames, noise()).await.end, Some(Ok(ExecStatus::Exited(9))));
}

#[tokio::test]
async fn more_input_than_the_window_ends_the_connection() {
    let guest = Guest::ready().await;
    let mut frames = guest.agent.exec(&exec(&["sleep", "60"])).await.expect("answers").framed();
    for _ in 0..=STDIN_WINDOW / MAX {
        // The agent may have closed it already.
        frames.send(Frame::Stdin(vec![0; MAX].into())).await.ok();
    }
    let mut ended = false;
    while let Some(Ok(frame)) = timeout(SHORT, frames.next()).await.expect("it ends") {
        let reply = frame.message().expect("a reply");
        assert!(matches!(reply, Reply::ExecStarted { .. } | Reply::StdinTaken { .. }), "{reply:?}");
        ended = true;
    }
    assert!(ended, "it had started");
}

#[tokio::test]
async fn a_signal_reaches_a_program_that_does_not_read_its_input() {
    let guest = Guest::ready().await;
    let mut frames = guest
        .agent
        .exec(&shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done"))
        .await
        .expect("answers")
        .framed();
    let mut outcome = Outcome::default();
    while outcome.out != b"up\n" {
        take(&mut frames, &mut outcome).await;
    }
    for _ in 0..STDIN_WINDOW / MAX {
        frames.send(Frame::Stdin(vec![0; MAX].into())).await.expect("sent");
    }
    let signal = ExecInput::Signal { signal: 15 };
    send(&mut frames, Frame::control(&signal)).await.expect("sent");
    assert_eq!(finish(frames).await.end, Some(Ok(ExecStatus::Exited(7))));
}

#[tokio::test]
async fn a_program_hears_that_the_host_is_gone_even_behind_waiting_input() {
    let guest = Guest::ready().await;
    for stuck in [0, STDIN_WINDOW / MAX] {
        // Quiet, because nobody reads any more what the shell says of its killed child.
        let script = "trap 'echo gone > heard; exit' HUP; echo up; exec >/dev/null 2>&1; \
                      while :; do sleep 0.01; done";
        let mut frames = guest.agent.exec(&shell(script)).await.expect("answers").framed();
        let mut outcome = Outcome::default();
        while outcome.out != b"up\n" {
            take(&mut frames, &mut outcome).await;
        }
        for _ in 0..stuck {
            frames.send(Frame::Stdin(vec![0; MAX].into())).await.expect("sent");
        }
        drop(frames);
        let heard = guest.home().join("heard");
        let wait = shell("while ! [ -s heard ]; do sleep 0.01; done");
        assert_eq!(run(&guest, &wait).await.end, Some(Ok(ExecStatus::Exited(0))), "{stuck}");
        fs::remove_file(heard).expect("removed");
    }
}

#[tokio::test]
async fn a_helper_in_the_background_does_not_hold_the_session() {
    let guest = Guest::ready().await;
    let start = Instant::now();
    let outcome =
        run(&guest, &shell("(sleep 0.02; echo late) & sleep 60 & echo pid $!; exit 3")).await;
    assert_eq!(outcome.end, Some(Ok(ExecStatus::Exited(3))));
    assert!(outcome.text().ends_with("late\n"), "{}", outcome.text());
    let loud = run(&guest, &shell("while :; do echo x; done & echo pid $!; exit 4")).await;
    assert_eq!(loud.end, Some(Ok(ExecStatus::Exited(4))));
    assert!(start.elapsed() < SHORT);
    for outcome in [outcome, loud] {
        let text = outcome.text();
        let pid = text.split_whitespace().skip_while(|word| *word != "pid").nth(1).expect("a pid");
        run(&guest, &exec(&["kill", pid])).await;
    }
}

#[tokio::test]
async fn a_terminal_has_a_size_and_an_end_of_input() {
    let guest = Guest::ready().await;
    let size = TtySize { cols: 100, rows: 40 };
    let script = "trap 'stty size; exit 5' WINCH; test -t 0 && test -t 2 && stty size; echo $TERM; \
                  while :; do sleep 0.01; done";
    let terminal = Exec { tty: Some(size), ..shell(script) };
    let mut frames = guest.agent.exec(&terminal).await.expect("answers").framed();
    let mut outcome = Outcome::default();
    while !outcome.text().contains("xterm-256color\r\n") {
        take(&mut frames, &mut outcome).await;
    }
    assert!(outcome.text().starts_with("40 100\r\n"), "{}", outcome.text());
    let resize = ExecInput::Resize { size: TtySize { cols: 80, rows: 24 } };
    send(&mut frames, Frame::control(&resize)).await.expect("sent");
    let outcome = finish(frames).await;
    assert_eq!(outcome.end, Some(Ok(ExecStatus::Exited(5))));
    assert_eq!(outcome.text(), "24 80\r\n");

    let reading = Exec { tty: Some(size), ..exec(&["cat"]) };
    let mut frames = guest.agent.exec(&reading).await.expect("answers").framed();
    frames.send(Frame::StdinEnd).await.expect("sent");
    assert_eq!(finish(frames).await.end, Some(Ok(ExecStatus::Exited(0))));
}

#[tokio::test]
async fn without_arguments_a_login_shell_runs() {
    let guest = Guest::ready().await;
    fs::write(guest.home().join(".profile"), "echo profile $0\nexit 6\n").expect("written");
    let outcome = run(&guest, &exec(&[])).await;
    assert_eq!(outcome.end, Some(Ok(ExecStatus::Exited(6))));
    assert_eq!(outcome.text(), "profile -sh\n");
}

#[tokio::test]
async fn before_the_set_up_nothing_runs() {
    let guest = Guest::new();
    assert_eq!(run(&guest, &shell("true")).await.end, Some(Err(ExecFailure::Other)));
}

#[tokio::test]
async fn the_stream_can_be_spliced_as_it_is() {
    let guest = Guest::ready().await;
    let mut stream = guest.agent.exec(&shell("echo x")).await.expect("answers");
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains("exec_ended") {
        let mut piece = [0; 7];
        let read = stream.read(&mut piece).await.expect("reads");
        assert!(read > 0, "{bytes:?}");
        bytes.extend_from_slice(&piece[..read]);
    }
    assert!(String::from_utf8_lossy(&bytes[5..]).starts_with("{\"reply\":\"exec_started\""));
    stream.read_to_end(&mut bytes).await.expect("an end");
    assert_eq!(bytes.last(), Some(&b'}'), "nothing comes after it");
}
