//! The file system alone: made by e2fsprogs, changed by debugfs, and compared with what e2fsck makes of it.

use std::fs::OpenOptions;
use std::path::PathBuf;

use tempfile::TempDir;

use super::fields::{be32, checksum_without};
use super::*;
use crate::process::Tool;

/// The bytes of a block.
const BLOCK: usize = 1024;

struct Disk {
    folder: TempDir,
    path: PathBuf,
}

impl Disk {
    /// A disk with a file `file` of 64 KiB, on which every block that nobody has written is full of `U`.
    async fn make() -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let (source, path) = (folder.path().join("source"), folder.path().join("disk"));
        std::fs::create_dir(&source).expect("made");
        std::fs::write(source.join("file"), old()).expect("written");
        let set_aside = File::create(source.join("set aside")).expect("made");
        set_aside.set_len(16 * BLOCK as u64).expect("set");
        set_aside.write_all_at(b"tail", 15 * BLOCK as u64).expect("written");
        std::fs::write(&path, vec![b'U'; 16 << 20]).expect("written");
        let made = Tool::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-b", "1024", "-J", "size=1"])
            .args(["-E", "nodiscard", "-d"])
            .arg(&source)
            .arg(&path);
        made.run().await.expect("made");
        Self { folder, path }
    }

    async fn debugfs(&self, commands: &str) -> String {
        let script = self.folder.path().join("commands");
        std::fs::write(&script, commands).expect("written");
        let ran = Tool::new("debugfs").args(["-w", "-f"]).arg(&script).arg(&self.path).run().await;
        String::from_utf8_lossy(&ran.expect("ran")).into_owned()
    }

    /// The blocks of the file.
    async fn blocks(&self) -> Vec<u64> {
        let told = self.debugfs("blocks /file").await;
        told.lines()
            .last()
            .expect("a line")
            .split_whitespace()
            .map(|it| it.parse().expect("a number"))
            .collect()
    }

    /// One transaction that writes these contents to these blocks, and one that takes some back.
    async fn journal(&self, writes: &[(u64, u8)], revoked: &[u64]) {
        let list = |blocks: &mut dyn Iterator<Item = u64>| {
            blocks.map(|block| block.to_string()).collect::<Vec<_>>().join(",")
        };
        let content = self.folder.path().join("content");
        let bytes: Vec<u8> = writes.iter().flat_map(|(_, byte)| marked(*byte)).collect();
        std::fs::write(&content, bytes).expect("written");
        let mut commands = "jo -c -v 3\n".to_owned();
        if !writes.is_empty() {
            let blocks = list(&mut writes.iter().map(|(block, _)| *block));
            commands += &format!("jw -b {blocks} {}\n", content.display());
        }
        if !revoked.is_empty() {
            commands += &format!("jw -r {}\n", list(&mut revoked.iter().copied()));
        }
        self.debugfs(&(commands + "jc\n")).await;
    }

    fn open(&self) -> Result<Ext4> {
        Ext4::open(File::open(&self.path).expect("there"))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        read(&self.open()?, name)
    }

    /// The file as it is once e2fsck has replayed the journal.
    async fn replayed(&self) -> Vec<u8> {
        let copy = self.folder.path().join("copy");
        std::fs::copy(&self.path, &copy).expect("copied");
        // It exits with 1 when it has done something.
        Tool::new("e2fsck").args(["-fp", "-E", "journal_only"]).arg(&copy).run().await.ok();
        let system = Ext4::open(File::open(&copy).expect("there")).expect("sound");
        assert!(system.replayed.is_empty(), "its journal is empty by now");
        read(&system, "file").expect("sound")
    }
}

fn read(system: &Ext4, name: &str) -> Result<Vec<u8>> {
    let root = system.inode(ROOT)?;
    let inode = system.look_up(&root, name.as_bytes())?.expect("it is there");
    let mut content = vec![1; usize::try_from(inode.size).expect("little")];
    system.content(&inode)?.read(0, &mut content)?;
    Ok(content)
}

fn old() -> Vec<u8> {
    (0..64 * BLOCK).map(|at| u8::try_from(at / BLOCK).expect("little") + 100).collect()
}

/// A block full of one byte. That of `!` begins as the journal's own do.
fn marked(byte: u8) -> Vec<u8> {
    let mut block = vec![byte; BLOCK];
    if byte == b'!' {
        block[..4].copy_from_slice(&journal::MAGIC.to_be_bytes());
    }
    block
}

#[tokio::test]
async fn what_was_set_aside_and_not_written_is_zeros() {
    let disk = Disk::make().await;
    disk.debugfs("fallocate \"/set aside\" 2 14\n").await;
    let system = disk.open().expect("sound");
    let inode = system.inode(ROOT).expect("sound");
    let inode = system.look_up(&inode, b"set aside").expect("sound").expect("there");
    let tree = &inode.place;
    let has_unwritten = (1..=usize::from(le16(tree, 2))).any(|at| le16(tree, at * 12 + 4) > 0x8000);
    assert!(has_unwritten, "debugfs has set blocks aside");
    let mut expected = vec![0; 16 * BLOCK];
    expected[15 * BLOCK..][..4].copy_from_slice(b"tail");
    assert_eq!(disk.read("set aside").expect("sound"), expected);
    // From positions that are no blocks'.
    let mut some = vec![1; 3000];
    system.content(&inode).expect("sound").read(15 * BLOCK as u64 - 2998, &mut some).expect("read");
    assert_eq!(&some[2998..], b"ta");
    assert!(some[..2998].iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn a_journal_is_replayed_as_e2fsck_does_it() {
    let disk = Disk::make().await;
    let blocks = disk.blocks().await;
    let at = |number: usize| blocks[number];
    disk.journal(&[(at(0), b'a'), (at(1), b'b'), (at(2), b'!'), (at(3), b'd')], &[]).await;
    disk.journal(&[(at(1), b'B'), (at(4), b'e')], &[]).await;
    // Taken back, with what was written before; and one of them written again after that.
    disk.journal(&[], &[at(3), at(4)]).await;
    disk.journal(&[(at(4), b'E')], &[]).await;
    let mut expected = old();
    for (number, byte) in [(0, b'a'), (1, b'B'), (2, b'!'), (4, b'E')] {
        expected[number * BLOCK..][..BLOCK].copy_from_slice(&marked(byte));
    }
    assert!(disk.read("file").expect("sound") == expected, "as it was written down");
    assert!(disk.replayed().await == expected, "as e2fsck does it");
    assert_eq!(disk.open().expect("sound").replayed.len(), 4);
}

#[tokio::test]
async fn a_journal_that_begins_again_at_its_beginning_is_read_to_its_end() {
    let disk = Disk::make().await;
    let blocks = disk.blocks().await;
    for number in 0..4_u8 {
        disk.journal(&[(blocks[usize::from(number)], b'a' + number)], &[]).await;
    }
    let expected = disk.read("file").expect("sound");
    assert!(expected[3 * BLOCK] == b'd', "all four are there");
    // Three blocks each: moved so that the second of them is cut by the end.
    let file = OpenOptions::new().read(true).write(true).open(&disk.path).expect("opens");
    let system = disk.open().expect("sound");
    let inode = system.inode(8).expect("the journal's");
    let content = system.content(&inode).expect("sound");
    let place = |at: u32| content.block(at).expect("no hole") * BLOCK as u64;
    let mut superblock = vec![0; 1024];
    file.read_exact_at(&mut superblock, place(0)).expect("read");
    let length = be32(&superblock, 0x10);
    let log: Vec<_> =
        (1..13).map(|at| system.block(content.block(at).expect("there")).expect("read")).collect();
    file.write_all_at(&vec![0; BLOCK], place(length - 6)).expect("written");
    for (number, block) in (0..).zip(&log) {
        let at = length - 5 + number;
        let at = if at < length { at } else { at - length + 1 };
        file.write_all_at(block, place(at)).expect("written");
    }
    file.write_all_at(&vec![0; BLOCK], place(8)).expect("written");
    superblock[0x1c..0x20].copy_from_slice(&(length - 5).to_be_bytes());
    let sum = checksum_without(u32::MAX, &superblock, 0xfc..0x100);
    superblock[0xfc..0x100].copy_from_slice(&sum.to_be_bytes());
    file.write_all_at(&superblock, place(0)).expect("written");
    assert!(disk.read("file").expect("sound") == expected, "as before");
    assert!(disk.replayed().await == expected, "as e2fsck does it");
}

#[tokio::test]
async fn a_transaction_counts_once_it_is_whole_and_damage_is_not_passed_over() {
    let disk = Disk::make().await;
    let blocks = disk.blocks().await;
    disk.journal(&[(blocks[0], b'a')], &[]).await;
    disk.journal(&[(blocks[1], b'b')], &[]).await;
    let file = OpenOptions::new().write(true).open(&disk.path).expect("opens");
    let places: Vec<u64> = {
        let system = disk.open().expect("sound");
        let content = system.inode(8).expect("the journal's");
        let content = system.content(&content).expect("sound");
        (0..7).map(|at| content.block(at).expect("there") * BLOCK as u64).collect()
    };
    // The second one's commit is not there.
    file.write_all_at(&vec![0; BLOCK], places[6]).expect("written");
    let content = disk.read("file").expect("sound");
    assert_eq!((content[0], content[BLOCK]), (b'a', 101));
    assert!(content == disk.replayed().await, "as e2fsck does it");
    // The first one's content is another.
    file.write_all_at(b"x", places[2]).expect("written");
    let error = disk.open().expect_err("damaged");
    assert!(error.to_string().contains("a content in its journal"), "{error}");
}

#[tokio::test]
async fn what_is_no_disk_of_ours_is_refused() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("disk");
    let open = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        Ext4::open(File::open(&path).expect("there")).expect_err("refused").to_string()
    };
    assert!(open(b"").contains("cannot be read"));
    assert!(open(&vec![0x5a; 1 << 20]).contains("no ext4"));
    let disk = Disk::make().await;
    let bytes = std::fs::read(&disk.path).expect("read");
    let mut other = bytes.clone();
    other[1024 + 0x60] |= 0x10;
    assert!(open(&other).contains("what cove cannot read: features"));
    let mut other = bytes.clone();
    other[1024 + 0x78] ^= 1;
    assert!(open(&other).contains("checksum"));
    let cut = &bytes[..bytes.len() / 2];
    std::fs::write(&path, cut).expect("written");
    let cut = Ext4::open(File::open(&path).expect("there"));
    let error = cut.and_then(|system| read(&system, "file")).map(drop);
    // Where its content lies is e2fsprogs' to say; what matters is that nothing is made up.
    assert!(error.is_err() || disk.blocks().await.iter().all(|it| *it < 8192), "{error:?}");
}

#[test]
fn the_mark_of_the_journal_is_put_back_into_what_is_read_of_it() {
    let disk = tempfile::tempfile().expect("made");
    disk.write_all_at(&[7; 4 * BLOCK], 0).expect("written");
    let layout = Layout {
        block: BLOCK,
        blocks: 4,
        inodes: 16,
        inodes_per_group: 16,
        inode_bytes: 256,
        descriptor_bytes: 64,
        descriptors: 2,
        seed: None,
        journal: None,
    };
    let replayed = BTreeMap::from([(1, Replayed { block: 3, escaped: true })]);
    let system = Ext4 { disk, layout, replayed };
    let whole = [journal::MAGIC.to_be_bytes().as_slice(), &[7; 4]].concat();
    for length in [0, 1, 3, 4, 8] {
        let mut into = vec![0; length];
        system.read_blocks(1, &mut into).expect("read");
        assert_eq!(into, whole[..length], "{length} bytes");
    }
}

#[test]
fn a_time_is_read_before_1970_and_after_2038() {
    for (low, extra, seconds) in [
        (0_u32, 0_u32, 0_i64),
        (0xffff_ffff, 0, -1),
        (0x8000_0000, 0, -0x8000_0000),
        (0x8000_0000, 1, 0x8000_0000),
        (0xf48e_4180, 1, 4_102_963_584),
    ] {
        let mut bytes = vec![0; 256];
        bytes[0..2].copy_from_slice(&0o100_644_u16.to_le_bytes());
        bytes[0x10..0x14].copy_from_slice(&low.to_le_bytes());
        bytes[0x80] = 32;
        bytes[0x88..0x8c].copy_from_slice(&(extra | 7 << 2).to_le_bytes());
        let inode = inode::read(&bytes, 12, None).expect("sound");
        assert_eq!(inode.modified, (seconds, 7), "{low:#x} {extra}");
    }
}
