//! Trees on their way into a guest.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, symlink};

use tar::{Builder, EntryType, Header};
use tokio::runtime::Handle;

use super::*;
use crate::agent::handshake;
use crate::agent::plan::STAGING;
use crate::wire::guest::{TreeChange, TreeFailure};

async fn receive(
    guest: &Guest,
    path: &str,
    build: impl FnOnce(&mut Builder<TreeWriter>) + Send + 'static,
) -> Result<(), GuestError> {
    let request = ReceiveTree { path: path.to_owned(), how: TreeChange::Make };
    let sink = guest.agent.receive_tree(request).await.expect("answers");
    let writer = sink.into_blocking(Handle::current());
    let work = move || {
        let mut builder = Builder::new(writer);
        builder.follow_symlinks(false);
        build(&mut builder);
        builder.into_inner().expect("ends").finish().map(drop)
    };
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_000_000_000);
    header.set_size(size);
    header
}

fn nothing_staged(guest: &Guest) {
    assert!(!guest.home().join(STAGING).exists(), "the staging folder is gone");
}

/// A tree with what is awkward to carry: long and odd names, modes, links that lead nowhere.
fn make_odd_tree(source: &Path, odd: &str) {
    let deep = source.join("deep").join("d".repeat(200));
    fs::create_dir_all(deep.join("e".repeat(200))).expect("made");
    fs::write(source.join(odd), "odd").expect("written");
    fs::write(source.join("large"), vec![b'l'; 3_000_000]).expect("written");
    fs::set_permissions(source.join("large"), PermissionsExt::from_mode(0o755)).expect("set");
    symlink("/etc/shadow", source.join("link")).expect("linked");
    symlink("x".repeat(300), source.join("long")).expect("linked");
}

#[tokio::test]
async fn a_tree_arrives_as_it_was() {
    let guest = Guest::ready().await;
    let source = guest.folder.path().join("source");
    let odd = format!("{}\n'\"ä", "n".repeat(240));
    make_odd_tree(&source, &odd);
    let from = source.clone();
    let build = move |builder: &mut Builder<TreeWriter>| {
        builder.append_dir_all(".", &from).expect("appended");
        builder
            .append_data(&mut header(EntryType::Directory, 0o750, 0), "dated", &b""[..])
            .expect("appended");
        builder
            .append_data(&mut header(EntryType::Regular, 0o4755, 1), "dated/file", &b"x"[..])
            .expect("appended");
    };
    receive(&guest, "src/repo", build).await.expect("received");
    let repo = guest.home().join("src/repo");
    assert_eq!(fs::read(repo.join(&odd)).expect("there"), b"odd");
    assert_eq!(fs::read(repo.join("large")).expect("there").len(), 3_000_000);
    assert_eq!(mode(&repo.join("large")), 0o755);
    assert!(repo.join("deep").join("d".repeat(200)).join("e".repeat(200)).is_dir());
    assert_eq!(fs::read_link(repo.join("link")).expect("a link"), Path::new("/etc/shadow"));
    assert_eq!(fs::read_link(repo.join("long")).expect("a link").as_os_str().len(), 300);
    assert_eq!(mode(&repo.join("dated")), 0o750);
    assert_eq!(mode(&repo.join("dated/file")), 0o4755);
    for path in ["dated", "dated/file"] {
        assert_eq!(fs::metadata(repo.join(path)).expect("there").mtime(), 1_000_000_000, "{path}");
    }
    nothing_staged(&guest);
}

#[tokio::test]
async fn what_is_there_already_is_kept() {
    let guest = Guest::ready().await;
    fs::create_dir_all(guest.home().join("src/repo")).expect("made");
    let again = receive(&guest, "src/repo", |_| {}).await.expect_err("refused");
    assert_eq!(
        again.to_string(),
        "the guest could not unpack `~/src/repo`: something is there already"
    );
    assert_eq!(known_of(&again), Some(TreeFailure::ThereAlready));
}

/// What the agent says that it knows of a tree which it has not taken.
fn known_of(error: &GuestError) -> Option<TreeFailure> {
    match error {
        GuestError::NotTaken { reason, .. } => Some(*reason),
        GuestError::NotAnswering { .. }
        | GuestError::Connect(_)
        | GuestError::AnotherMachine
        | GuestError::Version { .. }
        | GuestError::Connection(_)
        | GuestError::TimedOut { .. }
        | GuestError::Failed { .. }
        | GuestError::Content { .. } => None,
    }
}

/// An agent that takes a whole tree, says this, if anything, and closes the connection.
fn scripted(folder: &Path, said: &'static str) -> Agent {
    let (key, tasks) = (BootKey::random(), Tasks::default());
    let agent = Agent::new(dial(folder), key.clone(), BootId::random());
    let serving = tasks.clone();
    listen(folder, &tasks, move |stream| {
        let key = key.clone();
        serving.spawn("script", async move {
            let mut frames = Framed::new(stream, FrameCodec::default());
            handshake::accept(&mut frames, &key).await.expect("a request");
            while handshake::next(&mut frames).await.expect("a frame") != Frame::DataEnd {}
            if !said.is_empty() {
                frames.send(Frame::Control(said.into())).await.expect("sent");
            }
        });
    });
    agent
}

#[tokio::test]
async fn what_is_known_of_a_tree_is_what_the_agent_says() {
    for (said, known) in [
        (
            r#"{"reply":"tree_failed","reason":"untouched","step":"unpack","message":"no"}"#,
            Some(TreeFailure::Untouched),
        ),
        (
            r#"{"reply":"tree_failed","reason":"there_already","step":"unpack","message":"no"}"#,
            Some(TreeFailure::ThereAlready),
        ),
        (
            r#"{"reply":"tree_failed","reason":"swapped","step":"unpack","message":"no"}"#,
            Some(TreeFailure::Unknown),
        ),
        (r#"{"reply":"failed","step":"unpack","message":"something is there already"}"#, None),
        (r#"{"reply":"copied","count":0}"#, None),
        ("", None),
    ] {
        let folder = tempfile::tempdir().expect("tempdir");
        let request = ReceiveTree { path: "repo".to_owned(), how: TreeChange::Make };
        let sink = scripted(folder.path(), said).receive_tree(request).await.expect("answers");
        let error = sink.finish().await.expect_err("not taken");
        assert_eq!(known_of(&error), known, "{said}");
    }
}

#[tokio::test]
async fn why_a_write_failed_is_known_to_the_end() {
    let guest = Guest::ready().await;
    fs::create_dir(guest.home().join("repo")).expect("made");
    let request = ReceiveTree { path: "repo".to_owned(), how: TreeChange::Make };
    let sink = guest.agent.receive_tree(request).await.expect("answers");
    let mut writer = sink.into_blocking(Handle::current());
    let work = move || {
        let piece = vec![0; MAX];
        let mut writes = std::iter::repeat_with(|| writer.write_all(&piece)).take(100);
        let first = writes.find_map(Result::err).expect("it fails in the middle");
        let later = writer.flush().expect_err("nothing more is sent");
        assert_eq!(later.kind(), io::ErrorKind::BrokenPipe);
        (first.to_string(), writer.finish().expect_err("refused").to_string())
    };
    let why = "the guest could not unpack `~/repo`: something is there already";
    let said = tokio::task::spawn_blocking(work).await.expect("no panic");
    assert_eq!(said, (why.to_owned(), why.to_owned()));
}

#[tokio::test]
async fn a_tree_that_is_cut_off_leaves_nothing() {
    let guest = Guest::ready().await;
    let request = ReceiveTree { path: "repo".to_owned(), how: TreeChange::Make };
    let mut sink = guest.agent.receive_tree(request).await.expect("answers");
    let mut bytes = header(EntryType::Regular, 0o644, 5000);
    bytes.set_path("file").expect("set");
    bytes.set_cksum();
    sink.send(bytes.as_bytes().to_vec().into()).await.expect("sent");
    sink.send(vec![0; 100].into()).await.expect("sent");
    drop(sink);
    let staging = guest.home().join(STAGING);
    timeout(SHORT, async {
        // Nothing tells when the agent has cleaned up but the folder itself.
        while staging.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("in time");
    assert!(!guest.home().join("repo").exists());
}

#[tokio::test]
async fn what_is_no_plain_tree_is_refused() {
    let guest = Guest::ready().await;
    let secret = guest.folder.path().join("secret");
    fs::write(&secret, "kept").expect("written");
    let cases: [(&str, EntryType, &str); 5] = [
        ("../../secret", EntryType::Regular, "is not a path below the tree"),
        ("/secret", EntryType::Regular, "is not a path below the tree"),
        ("device", EntryType::Char, "is neither file, folder nor link"),
        ("hard", EntryType::Link, "is neither file, folder nor link"),
        ("out/secret", EntryType::Regular, ""),
    ];
    for (path, kind, expected) in cases {
        let build = move |builder: &mut Builder<TreeWriter>| {
            let mut link = header(EntryType::Symlink, 0o777, 0);
            builder.append_link(&mut link, "out", "../..").expect("appended");
            let mut entry = header(kind, 0o644, 0);
            entry.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            entry.set_link_name("out").expect("set");
            entry.set_cksum();
            builder.append(&entry, &b""[..]).expect("appended");
        };
        let error = receive(&guest, "repo", build).await.expect_err(path);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(known_of(&error), Some(TreeFailure::Untouched), "{path}");
        assert_eq!(fs::read_to_string(&secret).expect("there"), "kept");
        assert!(!guest.home().join("repo").exists(), "{path}");
        nothing_staged(&guest);
    }
    let outside = receive(&guest, "../repo", |_| {}).await.expect_err("refused");
    assert!(outside.to_string().ends_with("is not a path below the home"), "{outside}");
}
