//! Streams that are hostile, or break off.

use tar::{Builder, EntryType, Header};

use super::*;

/// A stream of raw entries.
struct Stream(Builder<Vec<u8>>);

impl Stream {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn entry(mut self, kind: EntryType, path: &str, target: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o7777);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).expect("appended");
        self
    }

    fn file(self, path: &str) -> Self {
        self.entry(EntryType::Regular, path, "", b"pwned")
    }

    fn folder(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, b"")
    }

    fn end(self) -> Vec<u8> {
        self.0.into_inner().expect("ended")
    }
}

/// A name, a stream, and what is said of it.
type Case = (&'static str, Stream, &'static str);

/// Streams that lead out, or to what is there already.
fn hostile_paths() -> Vec<Case> {
    vec![
        ("up", Stream::new().file("copy/../../../secret"), "is not a path below the tree"),
        ("up at once", Stream::new().file("../secret"), "is not a path below the tree"),
        ("absolute", Stream::new().file("/tmp/copy"), "is not a path below the tree"),
        ("no name", Stream::new().file("./"), "is not a path below the tree"),
        (
            "through a link",
            Stream::new().folder("copy").link("copy/out", "../..").file("copy/out/secret"),
            "something that is no folder is in its place",
        ),
        (
            "a folder over a link",
            Stream::new().link("copy", "../..").folder("copy").file("copy/secret"),
            "something that is no folder is in its place",
        ),
        (
            "over a link",
            Stream::new().link("copy", "../../secret").file("copy"),
            "it is in the stream twice",
        ),
        ("twice", Stream::new().file("copy").file("copy"), "it is in the stream twice"),
        ("below a file", Stream::new().file("copy").file("copy/x"), "no folder is in its place"),
    ]
}

/// Streams with what no plain tree has.
fn hostile_entries() -> Vec<Case> {
    let long = vec![b'x'; 100_000];
    let deep = "d/".repeat(250);
    vec![
        (
            "hard link",
            Stream::new().entry(EntryType::Link, "copy", "../../secret", b""),
            "neither file, folder nor link",
        ),
        (
            "device",
            Stream::new().entry(EntryType::Block, "copy", "", b""),
            "neither file, folder nor link",
        ),
        (
            "sparse",
            Stream::new().entry(EntryType::GNUSparse, "copy", "", b""),
            "neither file, folder nor link",
        ),
        (
            "content of a folder",
            Stream::new().entry(EntryType::Directory, "copy", "", b"x"),
            "is no file, and has a content",
        ),
        ("empty link", Stream::new().link("copy", ""), "a link that leads nowhere"),
        (
            "endless name",
            Stream::new().entry(EntryType::GNULongName, "x", "", &long).file("copy"),
            "a name of 100000 bytes is too long",
        ),
        (
            "endless names",
            (0..4).fold(Stream::new(), |stream, _| {
                stream.entry(EntryType::GNULongName, "x", "", b"copy\0")
            }),
            "again and again",
        ),
        (
            "deep",
            Stream::new().entry(EntryType::GNULongName, "x", "", deep.as_bytes()).file("copy"),
            "more than 200 folders deep",
        ),
        (
            "other size",
            Stream::new().entry(EntryType::XHeader, "x", "", b"10 size=9\n").file("copy"),
            "says `size` of a file",
        ),
        (
            "no time",
            Stream::new().entry(EntryType::XHeader, "x", "", b"11 mtime=x\n").file("copy"),
            "a time that is none",
        ),
        ("nothing", Stream::new(), "had nothing in it"),
        ("another name", Stream::new().file("other"), "had nothing in it"),
    ]
}

#[test]
fn a_hostile_stream_is_refused_and_touches_nothing() {
    for (case, stream, part) in hostile_paths().into_iter().chain(hostile_entries()) {
        let world = World::new();
        let error = world.receive(&stream.end(), Limits::default()).expect_err(case);
        assert!(error.message().contains(part), "{case}: {}", error.message());
        assert_eq!(world.names("target"), [""; 0], "{case}");
        assert_eq!(world.names(""), ["secret", "source", "target"], "{case}");
        assert_eq!(fs::read(world.at("secret")).expect("there"), b"kept", "{case}");
    }
}

#[test]
fn a_stream_may_have_so_much_and_no_more() {
    let three = || Stream::new().folder("copy").file("copy/a").file("copy/b").end();
    let limits = Limits { entries: 3, bytes: 10, room: 3 * 4096 + 10 };
    World::new().receive(&three(), limits).expect("it fits");
    for (limits, part) in [
        (Limits { entries: 2, ..limits }, "more than 2 files, folders and links"),
        (Limits { bytes: 9, ..limits }, "its files have more than 9 bytes"),
        (Limits { room: 3 * 4096 + 9, ..limits }, "there is room for 12297 bytes"),
    ] {
        let world = World::new();
        let error = world.receive(&three(), limits).expect_err(part);
        assert!(error.message().contains(part), "{}", error.message());
        assert_eq!(world.names("target"), [""; 0]);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let opened = fs::File::open(folder.path()).expect("opened");
    let room = Limits::default().with_room_of(opened).room;
    assert!(room > 0 && room < u64::MAX, "{room}");
}

#[test]
fn a_stream_that_breaks_off_or_goes_on_leaves_nothing() {
    let whole = Stream::new().folder("copy").file("copy/file").end();
    let mut endless = whole.clone();
    endless.extend_from_slice(&[0; 100_000]);
    for (stream, part) in [
        (&whole[..600], "broke off"),
        (&whole[..1030], "broke off"),
        (&endless[..], "goes on after its end"),
    ] {
        let world = World::new();
        let error = world.receive(stream, Limits::default()).expect_err(part);
        assert!(error.message().contains(part), "{}", error.message());
        assert_eq!(world.names("target"), [""; 0]);
    }
    // Only the end of what it is read from makes it whole.
    for ends in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = fs::File::open(folder.path()).expect("opened");
        let reader = Cut { rest: &whole, ends };
        let folder = std::os::fd::AsFd::as_fd(&opened);
        let unpacked = unpack(folder, reader, Bits::All, Limits::default(), LargeFiles::Direct);
        assert_eq!(unpacked.is_ok(), ends);
    }
}

/// A stream that ends, or is cut off.
struct Cut<'a> {
    rest: &'a [u8],
    ends: bool,
}

impl io::Read for Cut<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.rest.read(into)? {
            0 if !self.ends => Err(io::ErrorKind::UnexpectedEof.into()),
            length => Ok(length),
        }
    }
}

#[test]
fn bits_of_modes_are_taken_as_wanted() {
    for (bits, expected) in [(Bits::All, 0o7777), (Bits::Permissions, 0o777)] {
        let world = World::new();
        let place = Place::find(&world.at("target/new"), None).expect("a place");
        let stream = Stream::new().folder("copy").file("copy/file").end();
        world.take(&place, &stream, bits, Limits::default()).expect("taken");
        for path in ["target/new", "target/new/file"] {
            assert_eq!(mode(&world.at(path)), expected, "{path}");
        }
    }
}

#[test]
fn a_tree_that_its_owner_cannot_read_is_removed() {
    let world = World::new();
    fs::create_dir_all(world.at("target/a/b/c")).expect("made");
    fs::write(world.at("target/a/b/file"), "x").expect("written");
    symlink("/etc", world.at("target/a/link")).expect("linked");
    for (path, mode) in [("target/a/b/c", 0), ("target/a/b", 0o555), ("target/a", 0)] {
        set_mode(&world.at(path), mode);
    }
    let folder = fs::File::open(world.at("target")).expect("opened");
    remove_tree(&folder, OsStr::new("a")).expect("removed");
    assert_eq!(world.names("target"), [""; 0]);
    remove_tree(&folder, OsStr::new("a")).expect("it is gone already");
}
