//! Packing and unpacking, with trees that are awkward.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::{Timespec, Timestamps};
use tempfile::TempDir;

use super::*;
use crate::wire::guest::{CopyKind, Skipped};

mod before;
mod hostile;

/// A folder with a `source`, a `target`, and a `secret` that nothing may touch.
struct World(TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir(world.at("source")).expect("made");
        fs::create_dir(world.at("target")).expect("made");
        fs::write(world.at("secret"), "kept").expect("written");
        world
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(path)
    }

    /// Copies within this host.
    fn copy(&self, from: &str, to: &str) -> Result<Skipped, ArchiveError> {
        let from = self.at(from);
        let source = Source::open(&from)?;
        let place = Place::find(&self.at(to), from.file_name())?;
        place.admit(source.kind())?;
        let mut stream = Vec::new();
        let skipped = source.pack(&mut stream, LargeFiles::Direct)?;
        self.take(&place, &stream, Bits::Permissions, Limits::default())?;
        Ok(skipped)
    }

    fn take(
        &self,
        place: &Place,
        stream: &[u8],
        bits: Bits,
        limits: Limits,
    ) -> Result<(), ArchiveError> {
        let staging = Staging::make(|| Ok(place.parent())).expect("made");
        unpack(staging.folder(), stream, bits, limits, LargeFiles::Direct)?;
        place.publish(&staging)
    }

    /// Takes a stream to `target/new`.
    fn receive(&self, stream: &[u8], limits: Limits) -> Result<(), ArchiveError> {
        let place = Place::find(&self.at("target/new"), None).expect("a place");
        self.take(&place, stream, Bits::Permissions, limits)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(folder)).expect("readable");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("read").file_name();
        let mut names: Vec<String> =
            entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("there").permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).expect("set");
}

fn time_of(path: &Path) -> (i64, i64) {
    let metadata = fs::symlink_metadata(path).expect("there");
    (metadata.mtime(), metadata.mtime_nsec())
}

#[test]
fn a_tree_arrives_as_it_was() {
    let world = World::new();
    let tree = world.at("source/tree");
    let odd = format!("{}\n'\"ä", "n".repeat(249));
    let deep = Path::new("deep").join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(tree.join(&deep)).expect("made");
    fs::write(tree.join(&odd), "odd").expect("written");
    fs::write(tree.join(OsStr::from_bytes(b"no\xffutf")), "").expect("written");
    fs::write(tree.join(&deep).join("program"), vec![7; 300_000]).expect("written");
    set_mode(&tree.join(&deep).join("program"), 0o4755);
    fs::create_dir(tree.join("closed")).expect("made");
    fs::write(tree.join("closed/file"), "x").expect("written");
    symlink("/etc//shadow/../", tree.join("link")).expect("linked");
    symlink("x".repeat(300), tree.join("long")).expect("linked");
    let _socket = UnixListener::bind(tree.join("socket")).expect("bound");
    for (path, seconds, nanoseconds) in [
        ("link", 1_000_000_001, 1),
        ("closed/file", -5, 999_999_999),
        ("closed", 1_000_000_002, 123_456_789),
        ("deep", 1_000_000_003, 0),
        ("", 1_000_000_004, 500_000_000),
    ] {
        set_time(&tree.join(path), seconds, nanoseconds);
    }
    set_mode(&tree.join("closed"), 0o555);

    let skipped = world.copy("source/tree", "target").expect("copied");
    let first = Some(tree.join("socket").to_str().expect("UTF-8").to_owned());
    assert_eq!(skipped, Skipped { count: 1, first });
    assert_eq!(world.names("target"), ["tree"], "nothing else is left");
    let copy = world.at("target/tree");
    assert_eq!(fs::read(copy.join(&odd)).expect("there"), b"odd");
    assert!(copy.join(OsStr::from_bytes(b"no\xffutf")).exists());
    assert_eq!(fs::read(copy.join(&deep).join("program")).expect("there"), vec![7; 300_000]);
    assert_eq!(mode(&copy.join(&deep).join("program")), 0o755, "nobody gets the owner's rights");
    assert_eq!(mode(&copy.join("closed")), 0o555);
    for (path, target) in [("link", "/etc//shadow/../".to_owned()), ("long", "x".repeat(300))] {
        assert_eq!(
            fs::read_link(copy.join(path)).expect("a link").as_os_str(),
            OsStr::new(&target)
        );
    }
    for path in ["link", "closed/file", "closed", "deep", ""] {
        assert_eq!(time_of(&copy.join(path)), time_of(&tree.join(path)), "{path}");
    }
    for tree in [tree, copy] {
        set_mode(&tree.join("closed"), 0o755);
    }
}

#[test]
fn holes_stay_holes_and_what_is_between_them_is_there() {
    let world = World::new();
    let source = fs::File::create(world.at("source/sparse")).expect("made");
    source.set_len(64 << 20).expect("set");
    for at in [0, 5_000_000, (64 << 20) - 3] {
        std::os::unix::fs::FileExt::write_all_at(&source, b"abc", at).expect("written");
    }
    world.copy("source/sparse", "target/copy").expect("copied");
    let copied = fs::metadata(world.at("target/copy")).expect("there");
    assert_eq!(copied.len(), 64 << 20);
    assert!(copied.blocks() * 512 < 1 << 20, "{} blocks", copied.blocks());
    assert!(
        fs::read(world.at("target/copy")).expect("read")
            == fs::read(world.at("source/sparse")).expect("read")
    );
}

#[test]
fn one_file_or_link_is_copied_by_itself() {
    let world = World::new();
    fs::write(world.at("source/file"), "content").expect("written");
    fs::create_dir(world.at("source/folder")).expect("made");
    symlink("folder", world.at("source/link")).expect("linked");
    world.copy("source/file", "target/other").expect("copied");
    world.copy("source/link", "target").expect("copied");
    assert_eq!(fs::read(world.at("target/other")).expect("there"), b"content");
    assert_eq!(fs::read_link(world.at("target/link")).expect("a link"), Path::new("folder"));
}

#[test]
fn files_without_a_true_size_have_their_content() {
    let world = World::new();
    let source = Source::open(Path::new("/proc/self/status")).expect("there");
    let mut stream = Vec::new();
    source.pack(&mut stream, LargeFiles::Direct).expect("packed");
    world.receive(&stream, Limits::default()).expect("received");
    let copied = fs::read_to_string(world.at("target/new")).expect("there");
    assert!(copied.starts_with("Name:") && copied.ends_with('\n'), "{copied}");
}

#[test]
fn a_file_that_grows_is_whole_as_it_was_at_some_moment() {
    let world = World::new();
    for (before, after, copied) in [
        // Small ones are read before their length is said.
        (100, 300, 300),
        (0, 300_000, 300_000),
        (65_535, 65_536, 65_536),
        (100_000, 300_000, 100_000),
    ] {
        let (path, content) = (world.at("source/log"), vec![b'x'; after]);
        fs::write(&path, &content[..before]).expect("written");
        let source = Source::open(&path).expect("there");
        fs::write(&path, &content).expect("written");
        let mut stream = Vec::new();
        source.pack(&mut stream, LargeFiles::Direct).expect("packed");
        world.receive(&stream, Limits::default()).expect("received");
        let there = fs::read(world.at("target/new")).expect("there");
        assert!(there == content[..copied], "{before}, {after}: {} bytes", there.len());
    }
}

#[test]
fn a_file_that_becomes_shorter_is_an_error() {
    let world = World::new();
    let path = world.at("source/log");
    fs::write(&path, vec![b'x'; 300_000]).expect("written");
    let source = Source::open(&path).expect("there");
    fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(200_000))
        .expect("cut");
    let error = source.pack(&mut Vec::new(), LargeFiles::Direct).expect_err("shorter");
    assert!(error.message().contains("it became shorter"), "{}", error.message());
}

#[test]
fn what_cannot_be_copied_is_said() {
    let world = World::new();
    let _socket = UnixListener::bind(world.at("source/socket")).expect("bound");
    for (path, reason) in [
        ("source/nothing", CopyFailure::NotFound),
        ("source/socket", CopyFailure::Invalid),
        ("secret/below", CopyFailure::Other),
    ] {
        let error = Source::open(&world.at(path)).expect_err(path);
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.message().contains(path), "{error}");
    }
}

#[test]
fn a_destination_is_a_folder_or_a_name() {
    let world = World::new();
    fs::write(world.at("target/file"), "old").expect("written");
    fs::create_dir_all(world.at("target/folder/name")).expect("made");
    symlink("folder", world.at("target/to-folder")).expect("linked");
    symlink("nothing", world.at("target/to-nothing")).expect("linked");
    let _socket = UnixListener::bind(world.at("target/socket")).expect("bound");
    let (file, folder) = (CopyKind::File, CopyKind::Folder);
    for (destination, name, kind, expected) in [
        ("target/new", "name", folder, Ok("target/new")),
        ("target", "name", file, Ok("target/name")),
        ("target/", "name", folder, Ok("target/name")),
        ("target/file", "name", file, Ok("target/file")),
        ("target/to-nothing", "name", file, Ok("target/to-nothing")),
        ("target/to-folder", "other", file, Ok("target/to-folder/other")),
        ("target/file", "name", folder, Err("is a file")),
        ("target/to-nothing", "name", folder, Err("is a link")),
        (
            "target/folder",
            "name",
            file,
            Err("target/folder/name` is there already, and is a folder"),
        ),
        ("target/folder", "name", folder, Err("folders are not merged")),
        ("target/socket", "name", file, Err("is neither file, folder nor link")),
        ("target/missing/new", "name", file, Err("there is no `")),
        ("target/missing/", "name", file, Err("there is no `")),
        ("target/file/", "name", file, Err("is no folder")),
        ("target/file/new", "name", file, Err("is no folder")),
        ("target", "..", file, Err("has no name of its own")),
        ("target", "a/b", file, Err("has no name of its own")),
    ] {
        let place = Place::find(&world.at(destination), Some(OsStr::new(name)));
        match (place.and_then(|place| place.admit(kind).map(|()| place)), expected) {
            (Ok(place), Ok(expected)) => assert_eq!(place.path, world.at(expected)),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{destination}: {error}");
            }
            (found, _) => panic!("{destination}, {name}: {found:?}"),
        }
    }
}

#[test]
fn a_file_is_replaced_and_a_folder_is_not() {
    let world = World::new();
    fs::write(world.at("source/file"), "new").expect("written");
    fs::create_dir(world.at("source/folder")).expect("made");
    fs::write(world.at("target/file"), "old").expect("written");
    symlink("../secret", world.at("target/link")).expect("linked");
    fs::create_dir(world.at("target/folder")).expect("made");
    fs::write(world.at("target/folder/own"), "own").expect("written");
    world.copy("source/file", "target/file").expect("copied");
    world.copy("source/file", "target/link").expect("copied");
    world.copy("source/folder", "target").expect_err("refused");
    for path in ["target/file", "target/link"] {
        assert_eq!(fs::read(world.at(path)).expect("there"), b"new");
    }
    assert_eq!(fs::read(world.at("secret")).expect("there"), b"kept");
    assert_eq!(fs::read(world.at("target/folder/own")).expect("there"), b"own");
    assert_eq!(world.names("target"), ["file", "folder", "link"]);
}
