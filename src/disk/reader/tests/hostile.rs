//! Disks that a guest has written to harm who reads them: each is read to its end or refused, soon.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use super::*;

/// How much is taken of a reader: what it says is bounded by the client's disk, not by itself.
const TAKEN: usize = 32 << 20;

/// How long any disk may take: a hang is what would take longer.
const SOON: Duration = Duration::from_secs(20);

/// Takes so much, then nothing more.
struct Taker(usize);

impl Write for Taker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads all of a disk. It may fail, but it must end.
fn endure(path: &Path, what: &str) {
    let began = Instant::now();
    let wanted = Wanted { vm: "web".to_owned(), home: "/root".into(), path: String::new() };
    tell(&wanted, File::open(path).expect("there"), Taker(TAKEN)).ok();
    assert!(began.elapsed() < SOON, "{what}: {:?}", began.elapsed());
}

/// The same numbers in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("little")
    }
}

fn fill(source: &Path) {
    for folder in ["a/b/c", "d"] {
        fs::create_dir_all(source.join(folder)).expect("made");
    }
    for number in 0..40 {
        fs::write(source.join(format!("a/b/{number}")), vec![7; number * 99]).expect("written");
    }
    let sparse = File::create(source.join("d/sparse")).expect("made");
    for piece in 0..12 {
        sparse.write_all_at(b"x", piece * 10_000).expect("written");
    }
    std::os::unix::fs::symlink("x/".repeat(40), source.join("d/link")).expect("linked");
}

#[tokio::test]
async fn flipped_bytes_are_endured() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    // Without checksums, what is flipped is believed.
    for options in [&["-b", "1024"][..], &["-b", "1024", "-O", "^metadata_csum"]] {
        let disk = Disk::make(8, options, fill).await;
        let sound = fs::read(&disk.path).expect("read");
        // Superblock, descriptors, folders, inodes and nodes of trees: what is not zero.
        let full: Vec<usize> = (1024..sound.len()).filter(|at| sound[*at] != 0).collect();
        let file = File::options().read(true).write(true).open(&disk.path).expect("opens");
        for round in 0..300 {
            let flipped: Vec<usize> = (0..1 + numbers.below(6))
                .map(|_| (full[numbers.below(full.len())] + numbers.below(9)).min(sound.len() - 1))
                .collect();
            for at in &flipped {
                let byte = [u8::try_from(numbers.below(256)).expect("a byte")];
                file.write_all_at(&byte, *at as u64).expect("written");
            }
            endure(&disk.path, &format!("{options:?}, round {round}: {flipped:?}"));
            for at in flipped {
                file.write_all_at(&sound[at..=at], at as u64).expect("written");
            }
        }
        let system = disk.open();
        let root = system.inode(ext4::ROOT).expect("sound again");
        assert_eq!(root.kind, Kind::Folder);
    }
}

#[tokio::test]
async fn noise_and_half_disks_are_endured() {
    let disk = Disk::make(8, &["-b", "1024"], fill).await;
    let sound = fs::read(&disk.path).expect("read");
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    for round in 0..40 {
        fs::write(&disk.path, &sound[..numbers.below(sound.len())]).expect("written");
        endure(&disk.path, &format!("cut off, round {round}"));
        // A superblock that is one, and noise behind it.
        let noise = sound.iter().enumerate().map(|(at, byte)| match at {
            0..2048 => *byte,
            _ => u8::try_from(numbers.below(256)).expect("a byte"),
        });
        let noise: Vec<u8> = noise.take(1 << 20).collect();
        fs::write(&disk.path, noise).expect("written");
        endure(&disk.path, &format!("noise, round {round}"));
    }
}

#[tokio::test]
async fn a_folder_in_itself_ends_with_a_sentence() {
    let disk = Disk::make(8, &["-b", "1024"], fill).await;
    let link = Tool::new("debugfs").args(["-w", "-R", "link /a /a/b/again"]).arg(&disk.path);
    link.run().await.expect("linked");
    let said = told("a", File::open(&disk.path).expect("there"));
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(4096)..]).into_owned();
    assert!(said.contains("copy_failed") && said.contains("more than 200 folders deep"), "{said}");
    assert!(!said.contains("\"copied\""), "it is not whole");
}

#[tokio::test]
async fn a_damaged_disk_is_told_with_the_name_of_its_machine() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("disk");
    fs::write(&path, vec![0; 4096]).expect("written");
    let said = told("x", File::open(&path).expect("there"));
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.contains("the disk of `web` cannot be read: its file system is damaged"),
        "{said}"
    );
    assert!(said.contains("cove start web"), "{said}");
}
