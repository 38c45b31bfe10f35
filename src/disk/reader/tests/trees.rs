//! Trees: a disk that mke2fs made of one reads as the tree itself, and a path leads where it leads in the guest.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};

use rustix::fs::{CWD, FileType, Mode};

use super::*;
use crate::archive::{LargeFiles, Source};

/// What a stream has of a path: type, permissions, seconds, target and content.
type Said = (u8, u32, u64, Vec<u8>, Vec<u8>);

fn stream(bytes: &[u8]) -> BTreeMap<Vec<u8>, Said> {
    let mut all = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().expect("a stream") {
        let mut entry = entry.expect("sound");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("whole");
        let header = entry.header();
        let (kind, mode) = (header.entry_type().as_byte(), header.mode().expect("a mode"));
        let seconds = header.mtime().expect("a time");
        let target = entry.link_name_bytes().unwrap_or_default().into_owned();
        let path = entry.path_bytes().into_owned();
        let before = all.insert(path, (kind, mode, seconds, target, content));
        assert!(before.is_none(), "once each");
    }
    all
}

fn fill(source: &Path) {
    let tree = source.join("tree");
    fs::create_dir_all(tree.join("deep/er/empty")).expect("made");
    fs::create_dir(tree.join("many")).expect("made");
    for number in 0..1500 {
        fs::write(tree.join(format!("many/a file of which there are many {number}")), "x")
            .expect("written");
    }
    let odd = [&b"\n'\"\xff"[..], &[b'n'; 251]].concat();
    fs::write(tree.join(OsStr::from_bytes(&odd)), "odd").expect("written");
    fs::write(tree.join("run.sh"), "#!/bin/sh\n").expect("written");
    fs::set_permissions(tree.join("run.sh"), Permissions::from_mode(0o4750)).expect("set");
    fs::set_permissions(tree.join("deep/er"), Permissions::from_mode(0o711)).expect("set");
    fs::hard_link(tree.join("run.sh"), tree.join("again.sh")).expect("linked");
    symlink("deep/er", tree.join("link")).expect("linked");
    symlink("l/".repeat(60), tree.join("long link")).expect("linked");
    let sparse = File::create(tree.join("sparse")).expect("made");
    sparse.set_len((9 << 20) + 1).expect("set");
    sparse.write_all_at(b"middle", 5_000_001).expect("written");
    let bytes: Vec<u8> = (0..700_001_u32).map(|at| (at % 251) as u8).collect();
    fs::write(tree.join("bytes"), bytes).expect("written");
    let pipe = tree.join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("made");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(981_173_106);
    sparse.set_modified(time).expect("set");
}

#[tokio::test]
async fn a_disk_reads_as_the_tree_it_was_made_of() {
    for (options, indexed) in [
        (&["-b", "4096"][..], false),
        (&["-b", "1024"], true),
        (&["-b", "2048", "-O", "^metadata_csum,^64bit", "-I", "128"], true),
    ] {
        let disk = Disk::make(48, options, fill).await;
        if indexed {
            // It exits with 1 when it has made indexes.
            Tool::new("e2fsck").args(["-fyD"]).arg(&disk.path).run().await.ok();
        }
        let source = Source::open(&disk.source().join("tree")).expect("there");
        let (mut there, mut here) = (Vec::new(), Vec::new());
        let left_out = source.pack(&mut here, LargeFiles::Cached).expect("packed");
        let system = disk.open();
        let path = Path::new("/root/tree");
        let what = walk::find(&system, Path::new("/root"), path).expect("there");
        let skipped = tree::pack(&system, path, &what, &mut there).expect("packed");
        let (here, there) = (stream(&here), stream(&there));
        let names = |stream: &BTreeMap<Vec<u8>, Said>| stream.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&there), names(&here), "{options:?}");
        for (name, said) in &there {
            assert!(said == &here[name], "{options:?}: {}", String::from_utf8_lossy(name));
        }
        assert_eq!((left_out.count, skipped.count), (1, 1));
        assert_eq!(skipped.first.as_deref(), Some("/root/tree/pipe"));
        assert!(here.len() > 1510);
    }
}

#[tokio::test]
async fn a_path_leads_where_it_leads_in_the_guest() {
    let disk = Disk::make(16, &[], |source| {
        fs::create_dir_all(source.join("tree/inner")).expect("made");
        fs::create_dir_all(source.join("root")).expect("made");
        fs::write(source.join("tree/file"), "right").expect("written");
        fs::write(source.join("root/file"), "wrong").expect("written");
        for (link, target) in [
            ("to-tree", "tree"),
            ("absolute", "/root/tree"),
            ("around", "../root/./tree//"),
            ("out", "/etc"),
            ("up-and-out", "../etc/passwd"),
            ("circle", "circle"),
            ("tree/inner/up", ".."),
        ] {
            symlink(target, source.join(link)).expect("linked");
        }
    })
    .await;
    let system = disk.open();
    let find = |path: &str| {
        let home = Path::new("/root");
        let found = walk::find(&system, home, &place_of(home, path));
        match found.map_err(|error| error.reply("web")) {
            Ok(found) if found.kind == Kind::Folder => "Folder".to_owned(),
            Ok(found) => format!("{:?} {}", found.kind, found.size),
            Err(Reply::CopyFailed { message, .. }) => message,
            Err(other) => panic!("{other:?}"),
        }
    };
    for (path, says) in [
        ("", "Folder"),
        ("~/", "Folder"),
        ("/root", "Folder"),
        ("tree/file", "File 5"),
        ("/root/tree/file", "File 5"),
        ("/../root/../root/tree/./file", "File 5"),
        ("root/file", "File 5"),
        ("to-tree", "Link 4"),
        ("to-tree/", "Folder"),
        ("to-tree/file", "File 5"),
        ("absolute/file", "File 5"),
        ("absolute/inner/up/file", "File 5"),
        ("around/file", "File 5"),
        ("tree/inner/up/../tree/file", "File 5"),
        ("out", "Link 4"),
        ("out/passwd", "only that can be copied from: `cove start web` first"),
        ("up-and-out/", "is not in the home"),
        ("/etc/hosts", "`/etc/hosts` is not in the home"),
        ("/", "is not in the home"),
        ("..", "is not in the home"),
        ("../rootless", "is not in the home"),
        ("nothing", "there is no `/root/nothing`"),
        ("nothing/at/all", "there is no `/root/nothing/at/all`"),
        ("circle/x", "too many links"),
        ("tree/file/x", "not a directory"),
        ("tree/file/", "not a directory"),
    ] {
        let said = find(path);
        assert!(said.contains(says), "{path}: {said}");
    }
}
