//! Copies of files and trees out of a guest and into it.

use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener as Socket;

use tokio_util::codec::Framed;

use super::again::wire;
use super::exec::{run, shell};
use super::*;
use crate::agent::plan::STAGING;
use crate::archive::{Bits, LargeFiles, Limits, Source, TOP, unpack};
use crate::wire::guest::{
    CopyDirection, CopyFailure, CopyFiles, CopyKind, Incoming, Reply, Skipped,
};

type Failed = (CopyFailure, String);

async fn begin(guest: &Guest, path: &str, direction: CopyDirection) -> Framed<Stream, FrameCodec> {
    let files = CopyFiles { path: path.to_owned(), direction };
    guest.agent.copy(&files).await.expect("answers").framed()
}

fn failed(reply: Reply) -> Failed {
    match reply {
        Reply::CopyFailed { reason, message } => (reason, message),
        other => panic!("{other:?}"),
    }
}

/// What comes of a path, and what is left out of it.
async fn out(guest: &Guest, path: &str) -> Result<(CopyKind, Vec<u8>, Skipped), Failed> {
    let mut frames = begin(guest, path, CopyDirection::Out).await;
    let kind = match next(&mut frames).await.expect("a frame").message().expect("a reply") {
        Reply::Copying { kind } => kind,
        other => return Err(failed(other)),
    };
    let mut stream = Vec::new();
    loop {
        match next(&mut frames).await.expect("a frame") {
            Frame::Data(bytes) => stream.extend_from_slice(&bytes),
            Frame::DataEnd => break,
            other => return Err(failed(other.message().expect("a reply"))),
        }
    }
    match next(&mut frames).await.expect("a frame").message().expect("a reply") {
        Reply::Copied(skipped) => Ok((kind, stream, skipped)),
        other => Err(failed(other)),
    }
}

fn packed(source: &Path) -> (CopyKind, Vec<u8>) {
    let source = Source::open(source).expect("there");
    let (kind, mut stream) = (source.kind(), Vec::new());
    source.pack(&mut stream, LargeFiles::Cached).expect("packed");
    (kind, stream)
}

/// Sends something of the host's to a path.
async fn into(guest: &Guest, source: &Path, path: &str) -> Result<(), Failed> {
    let (kind, stream) = packed(source);
    let name = source.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let incoming = CopyDirection::In(Incoming { name, kind });
    let mut frames = begin(guest, path, incoming).await;
    for piece in stream.chunks(100_000) {
        // Where it is refused it is said all the same.
        frames.send(Frame::Data(piece.to_vec().into())).await.ok();
    }
    frames.send(Frame::DataEnd).await.ok();
    match next(&mut frames).await.expect("a frame").message().expect("a reply") {
        Reply::Copied(_) => Ok(()),
        other => Err(failed(other)),
    }
}

#[tokio::test]
async fn copies_and_programs_one_after_the_other_need_one_connection() {
    let guest = Guest::ready().await;
    let before = guest.dialed();
    let source = guest.folder.path().join("file");
    fs::write(&source, vec![7; 3_000_000]).expect("written");
    for _ in 0..2 {
        into(&guest, &source, "").await.expect("copied");
        assert_eq!(run(&guest, &shell("wc -c <file")).await.text(), "3000000\n");
        let (_, stream, _) = out(&guest, "file").await.expect("copied");
        assert!(stream.len() > 3_000_000);
    }
    assert_eq!(guest.dialed() - before, 1);

    // One that fails ends its connection: the host may be in the middle of what it sends.
    for dialed in [1, 2] {
        out(&guest, "nothing").await.expect_err("it is not there");
        assert_eq!(guest.dialed() - before, dialed);
    }
    into(&guest, &source, "nowhere/deep").await.expect_err("there is no such folder");
    assert_eq!(run(&guest, &shell("true")).await.end, Some(Ok(ExecStatus::Exited(0))));
    assert_eq!(guest.dialed() - before, 4);
}

#[tokio::test]
async fn what_a_client_says_behind_a_copy_does_not_reach_the_next() {
    let guest = Guest::ready().await;
    let source = guest.folder.path().join("file");
    fs::write(&source, "song").expect("written");
    let (kind, stream) = packed(&source);
    let incoming = CopyDirection::In(Incoming { name: Some("file".to_owned()), kind });
    let power_off = wire(Frame::request(&Request::PowerOff));
    let before = guest.dialed();
    // What begins and does not end costs the connection.
    for (half, dialed) in [(&b""[..], 1), (&[0, 0, 1, 0, 5, b'x'], 2)] {
        let mut frames = begin(&guest, "", incoming.clone()).await;
        frames.send(Frame::Data(stream.clone().into())).await.expect("sent");
        for late in [Frame::DataEnd, Frame::Data(power_off.clone().into()), Frame::DataEnd] {
            frames.send(late).await.expect("sent");
        }
        frames.get_mut().write_all(half).await.expect("sent");
        let copied = next(&mut frames).await.expect("a frame").message().expect("a reply");
        assert!(matches!(copied, Reply::Copied(_)), "{copied:?}");
        drop(frames);
        assert_eq!(run(&guest, &shell("cat file")).await.text(), "song");
        assert_eq!(guest.dialed() - before, dialed);
    }

    let out = CopyDirection::Out;
    let mut frames = begin(&guest, "file", out).await;
    for late in [Frame::Data("late".into()), Frame::DataEnd] {
        frames.send(late).await.expect("sent");
    }
    while !matches!(next(&mut frames).await.expect("a frame"), Frame::DataEnd) {}
    let copied = next(&mut frames).await.expect("a frame").message().expect("a reply");
    assert!(matches!(copied, Reply::Copied(_)), "{copied:?}");
    drop(frames);
    assert_eq!(run(&guest, &shell("cat file")).await.text(), "song");
    assert_eq!(guest.dialed() - before, 2);
    assert!(!guest.off.load(Ordering::SeqCst));
}

#[tokio::test]
async fn what_goes_in_comes_out_again() {
    let guest = Guest::ready().await;
    let source = guest.folder.path().join("tree");
    let random: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    fs::create_dir_all(source.join("deep/er")).expect("made");
    fs::write(source.join("deep/er/random"), &random).expect("written");
    fs::set_permissions(source.join("deep/er"), PermissionsExt::from_mode(0o750)).expect("set");
    symlink("/etc/shadow", source.join("link")).expect("linked");
    into(&guest, &source, "").await.expect("copied");
    into(&guest, &source, "~/other").await.expect("copied");
    let absolute = guest.folder.path().join("beside");
    into(&guest, &source, absolute.to_str().expect("UTF-8")).await.expect("copied");

    for path in ["tree", "~/other", absolute.to_str().expect("UTF-8")] {
        let (kind, stream, skipped) = out(&guest, path).await.expect(path);
        assert_eq!((kind, skipped), (CopyKind::Folder, Skipped::default()), "{path}");
        let folder = tempfile::tempdir().expect("a folder");
        let opened = fs::File::open(folder.path()).expect("opened");
        unpack(
            opened.as_fd(),
            &stream[..],
            Bits::Permissions,
            Limits::default(),
            LargeFiles::Cached,
        )
        .expect("sound");
        let copy = folder.path().join(TOP);
        assert!(fs::read(copy.join("deep/er/random")).expect("there") == random, "{path}");
        assert_eq!(mode(&copy.join("deep/er")), 0o750);
        assert_eq!(fs::read_link(copy.join("link")).expect("a link"), Path::new("/etc/shadow"));
    }
    assert!(!guest.home().join(STAGING).exists(), "the staging folder is gone");
}

#[tokio::test]
async fn what_cannot_go_out_is_said_with_its_reason() {
    let guest = Guest::ready().await;
    fs::create_dir(guest.home().join("folder")).expect("made");
    let _socket = Socket::bind(guest.home().join("folder/socket")).expect("bound");
    let (reason, message) = out(&guest, "folder/nothing").await.expect_err("absent");
    assert_eq!(reason, CopyFailure::NotFound);
    assert!(message.contains("there is no `") && message.contains("folder/nothing"), "{message}");
    let (reason, _) = out(&guest, "folder/socket").await.expect_err("a socket");
    assert_eq!(reason, CopyFailure::Invalid);
    let (kind, _, skipped) = out(&guest, "~/folder").await.expect("copied");
    assert_eq!((kind, skipped.count), (CopyKind::Folder, 1));
    assert!(skipped.first.expect("one").ends_with("folder/socket"));
}

#[tokio::test]
async fn what_is_in_the_way_stays() {
    let guest = Guest::ready().await;
    let host = guest.folder.path().join("host");
    fs::create_dir_all(host.join("folder")).expect("made");
    fs::write(host.join("file"), vec![b'n'; 2_000_000]).expect("written");
    fs::create_dir(guest.home().join("folder")).expect("made");
    fs::write(guest.home().join("folder/own"), "own").expect("written");
    fs::write(guest.home().join("taken"), "old").expect("written");
    for (source, path, reason, part) in [
        ("folder", "", CopyFailure::InTheWay, "folders are not merged"),
        ("folder", "taken", CopyFailure::InTheWay, "is a file"),
        ("file", "missing/file", CopyFailure::NotFound, "missing"),
        ("file", "taken/", CopyFailure::InTheWay, "is no folder"),
    ] {
        let (failure, message) = into(&guest, &host.join(source), path).await.expect_err(path);
        assert!(failure == reason && message.contains(part), "{failure:?}: {message}");
    }
    into(&guest, &host.join("file"), "taken").await.expect("a file is replaced");
    into(&guest, &host.join("file"), "folder").await.expect("it goes into the folder");
    assert_eq!(fs::metadata(guest.home().join("taken")).expect("there").len(), 2_000_000);
    assert_eq!(fs::metadata(guest.home().join("folder/file")).expect("there").len(), 2_000_000);
    assert_eq!(fs::read(guest.home().join("folder/own")).expect("there"), b"own");
}

#[tokio::test]
async fn a_copy_that_is_cut_off_changes_nothing() {
    let guest = Guest::ready().await;
    let source = guest.folder.path().join("file");
    fs::write(&source, vec![b'n'; 300_000]).expect("written");
    fs::write(guest.home().join("file"), "old").expect("written");
    let (kind, stream) = packed(&source);
    let incoming = CopyDirection::In(Incoming { name: None, kind });
    let mut frames = begin(&guest, "file", incoming).await;
    // All of the archive, but not the word that this is all.
    frames.send(Frame::Data(stream.into())).await.expect("sent");
    // Nothing tells how far the agent is but the folder itself.
    let staged = async |there: bool| {
        while guest.home().join(STAGING).exists() != there {
            tokio::task::yield_now().await;
        }
    };
    timeout(SHORT, staged(true)).await.expect("in time");
    drop(frames);
    timeout(SHORT, staged(false)).await.expect("in time");
    assert_eq!(fs::read(guest.home().join("file")).expect("there"), b"old");
    assert_eq!(fs::read_dir(guest.home()).expect("readable").count(), 1);
}

#[tokio::test]
async fn there_is_no_copy_before_the_set_up() {
    let guest = Guest::new();
    let mut frames = begin(&guest, "x", CopyDirection::Out).await;
    let reply = next(&mut frames).await.expect("a frame").message().expect("a reply");
    assert!(matches!(reply, Reply::Failed { .. }), "{reply:?}");
}
