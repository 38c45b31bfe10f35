//! What the daemon makes of readers that do as they should, and of those that do not.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tempfile::TempDir;
use tokio::sync::RwLock;
use tokio_util::codec::Encoder as _;

use super::*;
use crate::vm::ports::DiskInUse;
use crate::wire::guest::{CopyKind, Skipped};

/// A VM's folder with a disk, and a program that reads it so.
fn world(script: &str) -> (TempDir, Readers) {
    let folder = tempfile::tempdir().expect("tempdir");
    fs::write(folder.path().join(WORK_DISK), "a disk").expect("written");
    let program = folder.path().join("reader");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("set");
    (folder, Readers { program, home: "/root".to_owned(), tasks: Tasks::default() })
}

async fn begin(
    folder: &TempDir,
    readers: &Readers,
) -> (Result<Box<dyn ByteStream>, DiskError>, Arc<RwLock<()>>) {
    let (in_use, lock) = DiskInUse::alone();
    let (vm, folder) = ("web".parse().expect("a name"), folder.path().to_owned());
    let wanted = DiskCopy { vm, folder, path: "some file".to_owned(), in_use };
    (readers.begin(wanted).await, lock)
}

/// What comes of a reader.
async fn told(script: &str) -> Vec<Frame> {
    let (folder, readers) = world(script);
    let (stream, lock) = begin(&folder, &readers).await;
    let frames = FramedRead::new(stream.expect("begun"), FrameCodec::default());
    let frames = frames.map(|frame| frame.expect("whole")).collect().await;
    // Whoever waits to start the VM gets to do so.
    timeout(END, lock.write()).await.map(drop).expect("nobody reads any more");
    frames
}

fn failure(frame: &Frame) -> String {
    match frame.message().expect("a reply") {
        Reply::CopyFailed { reason: CopyFailure::Other, message } => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_reader_says_is_passed_on() {
    let said = [
        Frame::control(&Reply::Copying { kind: CopyKind::File }).expect("fits"),
        Frame::Data(Bytes::from(vec![7; MAX_PAYLOAD])),
        Frame::DataEnd,
        Frame::control(&Reply::Copied(Skipped::default())).expect("fits"),
    ];
    let mut bytes = BytesMut::new();
    for frame in said.clone() {
        FrameCodec::default().encode(frame, &mut bytes).expect("fits");
    }
    let folder = tempfile::tempdir().expect("tempdir");
    let file = folder.path().join("said");
    fs::write(&file, bytes).expect("written");
    let script = format!(
        "[ \"$*\" = 'read-disk web /root some file' ] && [ \"$(cat)\" = 'a disk' ] && cat '{}'",
        file.display()
    );
    assert_eq!(told(&script).await, said);
}

#[tokio::test]
async fn how_a_reader_failed_is_told_in_its_place() {
    for (script, why) in [
        ("kill -SYS $$", "did what a reader may not, and was killed"),
        ("kill -XCPU $$", "more than 900 s of processor time"),
        ("kill -KILL $$", "was killed (is the host short of memory?)"),
        (
            "echo memory allocation of 9 bytes failed >&2; kill -SYS $$",
            "more than 1024 MiB of memory",
        ),
        ("echo 'an accident\nand more' >&2; exit 3", "exit status: 3): an accident"),
        // Cut off in the middle of a frame, and no frame at all.
        ("printf '\\0\\0\\0\\377\\5half'; exit 1", "exit status: 1"),
        ("echo nonsense; exit 1", "exit status: 1"),
    ] {
        let frames = told(script).await;
        assert_eq!(frames.len(), 1, "{script}: {frames:?}");
        let message = failure(&frames[0]);
        assert!(message.starts_with("the disk of `web` cannot be read: its reader"), "{message}");
        assert!(message.contains(why), "{script}: {message}");
    }
}

#[tokio::test]
async fn a_client_that_has_gone_ends_the_reader() {
    let (folder, readers) = world("exec sleep 600");
    let (stream, lock) = begin(&folder, &readers).await;
    assert!(lock.try_write().is_err(), "the disk is in use");
    drop(stream.expect("begun"));
    timeout(END, lock.write()).await.map(drop).expect("nobody reads any more");
}

#[tokio::test]
async fn a_disk_or_a_program_that_is_not_there_is_named() {
    let (folder, mut readers) = world("");
    readers.program = "/no/such/coved".into();
    let error = begin(&folder, &readers).await.0.map(drop).expect_err("no program");
    assert!(error.to_string().contains("/no/such/coved"), "{error}");
    fs::remove_file(folder.path().join(WORK_DISK)).expect("removed");
    let error = begin(&folder, &readers).await.0.map(drop).expect_err("no disk");
    assert!(error.to_string().contains("work.ext4"), "{error}");
}
