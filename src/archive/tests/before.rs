//! Our own reader of what stands in front of an entry: any bytes, and what other programs write.

use std::cell::Cell;
use std::io::Read;

use proptest::prelude::*;
use rustix::fs::Timespec;
use tar::{Archive, Builder, EntryType, Header};

use super::super::before::Before;
use super::super::time;
use super::*;

/// The longest extension, as the reader has it.
const MAX_EXTENSION: u64 = 64 * 1024;

/// An entry with what was said of it before.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    path: Vec<u8>,
    target: Vec<u8>,
    modified: Option<(i64, i64)>,
}

/// All entries of a stream, as unpacking sees them.
fn ours(stream: impl Read) -> Result<Vec<Seen>, ArchiveError> {
    let (mut archive, mut before, mut seen) = (Archive::new(stream), Before::default(), Vec::new());
    for entry in archive.entries().map_err(ArchiveError::Stream)?.raw(true) {
        let mut entry = entry.map_err(ArchiveError::Stream)?;
        if before.take(&mut entry)? {
            continue;
        }
        let Before { path, target, modified, .. } = std::mem::take(&mut before);
        let header = entry.header();
        let in_header = || header.link_name_bytes().unwrap_or_default().into_owned();
        seen.push(Seen {
            path: path.unwrap_or_else(|| header.path_bytes().into_owned()),
            target: target.unwrap_or_else(in_header),
            modified: modified.map(pair),
        });
    }
    Ok(seen)
}

/// The same, as the library sees them.
fn theirs(stream: &[u8]) -> Vec<Seen> {
    let mut archive = Archive::new(stream);
    let entries = archive.entries().expect("sound").map(|entry| {
        let mut entry = entry.expect("sound");
        let extensions = entry.pax_extensions().expect("sound").into_iter().flatten();
        let mut times = extensions.map(|extension| extension.expect("sound"));
        let time = times.find(|extension| extension.key() == Ok("mtime"));
        let modified = time.and_then(|time| time::read(time.value_bytes())).map(pair);
        let target = entry.link_name_bytes().unwrap_or_default().into_owned();
        Seen { path: entry.path_bytes().into_owned(), target, modified }
    });
    entries.collect()
}

fn pair(time: Timespec) -> (i64, i64) {
    (time.tv_sec, time.tv_nsec)
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

/// An extension, or an entry, that may say a size that is not its content's.
fn any_entry() -> impl Strategy<Value = Vec<u8>> {
    let kinds = [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::Regular,
        EntryType::Symlink,
    ];
    let content = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..1200),
        "([0-9]{1,3} (mtime|path|size)=[-0-9.]{0,12}\n){0,3}".prop_map(String::into_bytes),
    ];
    let wrong_size = proptest::option::weighted(0.1, 0..1_u64 << 40);
    (proptest::sample::select(kinds.to_vec()), content, wrong_size).prop_map(
        |(kind, content, wrong_size)| {
            let size = wrong_size.unwrap_or(content.len() as u64);
            let mut bytes = header(kind, size).as_bytes().to_vec();
            bytes.extend_from_slice(&content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
            bytes
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_entries_or_an_error(
        entries in proptest::collection::vec(any_entry(), 0..6),
        noise in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        cut in any::<usize>(),
    ) {
        let mut stream = entries.concat();
        for (at, byte) in noise {
            if let Some(at) = at.checked_rem(stream.len()) {
                stream[at] = byte;
            }
        }
        if cut % 3 == 0 {
            stream.truncate(cut % (stream.len() + 1));
        }
        let count = stream.len() / 512;
        if let Ok(seen) = ours(&stream[..]) {
            prop_assert!(seen.len() <= count);
        }
    }

    #[test]
    fn no_more_is_read_of_an_extension_than_its_longest(
        kind in proptest::sample::select(vec![
            EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader,
        ]),
        size in MAX_EXTENSION - 2..MAX_EXTENSION + 3,
        factor in prop_oneof![Just(1), 1_u64..1 << 20],
    ) {
        let (size, read) = (size * factor, Cell::new(0));
        let header = header(kind, size);
        let endless = header.as_bytes().chain(io::repeat(b'a'));
        let counted = Counted { stream: endless, read: &read };
        prop_assert!(ours(counted).is_err(), "what follows is no entry");
        prop_assert!(read.get() <= MAX_EXTENSION + 2 * 512, "{} bytes", read.get());
        prop_assert!(size <= MAX_EXTENSION || read.get() == 512, "{} bytes", read.get());
    }

    #[test]
    fn what_the_library_writes_is_read_as_the_library_reads_it(
        entries in proptest::collection::vec(
            (
                "[a-z\u{e4}\n ]{1,90}(/[a-z\u{e4}\n ]{1,90}){0,4}",
                proptest::option::of("[a-z./\u{e4}]{1,300}"),
                proptest::option::of((-5_000_000_000_i64..5_000_000_000, 0_i64..1_000_000_000)),
            ),
            0..5,
        ),
    ) {
        let mut builder = Builder::new(Vec::new());
        for (path, target, modified) in &entries {
            if let Some((seconds, nanoseconds)) = modified {
                let text = time::write(*seconds, *nanoseconds);
                builder.append_pax_extensions([("mtime", text.as_bytes())]).expect("appended");
            }
            let mut header = header(EntryType::Regular, 0);
            match target {
                Some(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    builder.append_link(&mut header, path, target).expect("appended");
                }
                None => builder.append_data(&mut header, path, &[][..]).expect("appended"),
            }
        }
        let stream = builder.into_inner().expect("ended");
        let seen = ours(&stream[..]).expect("sound");
        let times: Vec<_> = seen.iter().map(|seen| seen.modified).collect();
        let written: Vec<_> = entries.iter().map(|(_, _, modified)| *modified).collect();
        prop_assert_eq!(times, written);
        prop_assert_eq!(seen, theirs(&stream));
    }
}

/// Counts what is read.
struct Counted<'a, Stream> {
    stream: Stream,
    read: &'a Cell<u64>,
}

impl<Stream: Read> Read for Counted<'_, Stream> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

/// What GNU tar makes of `source/tree`.
fn gnu_tar(world: &World, options: &[&str]) -> Vec<u8> {
    #[expect(clippy::disallowed_methods, reason = "a test's own program")]
    let output = std::process::Command::new("tar")
        .args(["--create", "--directory"])
        .arg(world.at("source"))
        .args(options)
        .arg("tree")
        .output()
        .expect("GNU tar is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn what_gnu_tar_writes_is_read_as_the_library_reads_it() {
    let world = World::new();
    let deep = world.at("source/tree").join("d".repeat(120));
    fs::create_dir_all(&deep).expect("made");
    fs::write(deep.join("f".repeat(200)), "content").expect("written");
    symlink("t".repeat(300), deep.join("link")).expect("linked");
    let long = gnu_tar(&world, &["--format=gnu"]);
    let seen = ours(&long[..]).expect("sound");
    assert_eq!(seen, theirs(&long));
    assert!(seen.iter().any(|seen| seen.path.ends_with("f".repeat(200).as_bytes())));
    assert!(seen.iter().any(|seen| seen.target == "t".repeat(300).as_bytes()));

    fs::remove_dir_all(&deep).expect("removed");
    fs::write(world.at("source/tree/file"), "content").expect("written");
    set_time(&world.at("source/tree/file"), -7, 123_456_789);
    let times = gnu_tar(&world, &["--format=posix", "--pax-option=delete=atime,delete=ctime"]);
    let seen = ours(&times[..]).expect("sound");
    assert_eq!(seen, theirs(&times));
    assert!(seen.iter().any(|seen| seen.modified == Some((-7, 123_456_789))), "{seen:?}");
}
