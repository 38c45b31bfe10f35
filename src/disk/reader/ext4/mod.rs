//! ext4, read only, of a disk that anybody may have written.
//!
//! Knows what `mke2fs` makes for cove's disks and the guest's kernel makes of it: extents, linear and hashed
//! folders, 64-bit, checksums of metadata, a journal that is to be replayed. What else a disk needs to be
//! understood is refused by name. Own code, because a file that is read wrong is worse than one that is not
//! read: of the crates there are, ext4-view 1.0 takes space that was set aside but not written for content,
//! and leaves out of a journal what was revoked and what comes after its wrap.
//!
//! Formats and names: `Documentation/filesystems/ext4` of Linux. Everything read is checked before it is used;
//! every loop has a bound that the disk has no say in, or gets further on the disk with each turn.

mod extents;
mod fields;
mod folder;
mod inode;
mod journal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub(super) use extents::Content;
pub(super) use inode::{Inode, Kind, ROOT};

use fields::{checksum, le16, le32, wide};

/// Where the superblock begins, and how long it is, in bytes.
const SUPERBLOCK: (u64, usize) = (1024, 1024);
/// Where its own checksum is in it.
const SUPERBLOCK_CHECKSUM: usize = 0x3fc;
const MAGIC: u16 = 0xef53;

/// The journal is to be replayed.
const RECOVER: u32 = 0x4;
const WIDE: u32 = 0x80;
const SEED_GIVEN: u32 = 0x2000;
/// Entries of folders say what they name: the reader looks at the inode, but the layout is another without.
const FILE_TYPES: u32 = 0x2;
/// Features without which a disk cannot be understood: file types, recovery, extents, 64-bit, flexible groups,
/// attributes in inodes, a checksum seed, large folders.
const UNDERSTOOD: u32 = FILE_TYPES | RECOVER | 0x40 | WIDE | 0x200 | 0x400 | SEED_GIVEN | 0x4000;
/// Metadata has checksums.
const CHECKSUMS: u32 = 0x400;
/// There is a journal.
const HAS_JOURNAL: u32 = 0x4;

/// Why a disk cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ext4Error {
    #[error("a part of it cannot be read")]
    Io(#[from] io::Error),
    #[error("its file system is damaged: {0}")]
    Damaged(String),
    #[error("its file system has what cove cannot read: {0}")]
    Unknown(String),
}

type Result<T> = std::result::Result<T, Ext4Error>;

fn damaged<T>(what: impl Into<String>) -> Result<T> {
    Err(Ext4Error::Damaged(what.into()))
}

fn unknown<T>(what: impl Into<String>) -> Result<T> {
    Err(Ext4Error::Unknown(what.into()))
}

/// What the superblock says.
#[derive(Debug, Clone)]
struct Layout {
    block: usize,
    blocks: u64,
    inodes: u32,
    inodes_per_group: u32,
    inode_bytes: usize,
    descriptor_bytes: usize,
    /// The block of the first group descriptor.
    descriptors: u64,
    /// What checksums begin with, where metadata has any.
    seed: Option<u32>,
    /// The journal's inode, when it is to be replayed.
    journal: Option<u32>,
}

/// A file system on a disk.
#[derive(Debug)]
pub(super) struct Ext4 {
    disk: File,
    layout: Layout,
    /// Blocks whose newest content is in the journal.
    replayed: BTreeMap<u64, Replayed>,
}

/// Where the newest content of a block is.
#[derive(Debug, Clone, Copy)]
struct Replayed {
    block: u64,
    /// It begins with the journal's own mark, which is left out there.
    escaped: bool,
}

impl Ext4 {
    /// The file system on this disk, as it is once the journal has been replayed: in memory alone.
    pub(super) fn open(disk: File) -> Result<Self> {
        let mut superblock = vec![0; SUPERBLOCK.1];
        disk.read_exact_at(&mut superblock, SUPERBLOCK.0)?;
        let layout = Layout::read(&superblock)?;
        let mut system = Self { disk, layout, replayed: BTreeMap::new() };
        if let Some(journal) = system.layout.journal {
            system.replayed = journal::replay(&system, journal)?;
            // What was grown lately is larger in the journal only.
            let (start, length) = SUPERBLOCK;
            let block = system.layout.block as u64;
            let content = system.block(start / block)?;
            let at = usize::try_from(start % block).unwrap_or_default();
            system.layout = Layout::read(&content[at..at + length.min(content.len() - at)])?;
        }
        Ok(system)
    }

    /// The content of a block.
    fn block(&self, number: u64) -> Result<Vec<u8>> {
        let mut content = vec![0; self.layout.block];
        self.read_blocks(number, &mut content)?;
        Ok(content)
    }

    /// Reads blocks that lie one after the other, the last of them maybe in part.
    fn read_blocks(&self, first: u64, into: &mut [u8]) -> Result<()> {
        let block = self.layout.block;
        let count = into.len().div_ceil(block) as u64;
        let end = first.checked_add(count).filter(|end| *end <= self.layout.blocks);
        let Some(end) = end else {
            return damaged(format!("block {first} is beyond its end"));
        };
        self.disk.read_exact_at(into, first * block as u64)?;
        for (number, replayed) in self.replayed.range(first..end) {
            let at = usize::try_from(number - first).unwrap_or_default() * block;
            let length = block.min(into.len() - at);
            let into = &mut into[at..at + length];
            self.disk.read_exact_at(into, replayed.block * block as u64)?;
            if replayed.escaped {
                let mark = journal::MAGIC.to_be_bytes();
                let length = into.len().min(mark.len());
                into[..length].copy_from_slice(&mark[..length]);
            }
        }
        Ok(())
    }

    /// Where a group's inodes begin.
    fn inode_table(&self, group: u32) -> Result<u64> {
        let Layout { block, descriptor_bytes, descriptors, .. } = self.layout;
        let at = u64::from(group) * descriptor_bytes as u64;
        let content = self.block(descriptors + at / block as u64)?;
        let at = usize::try_from(at % block as u64).unwrap_or_default();
        let descriptor = &content[at..at + descriptor_bytes];
        let high = if descriptor_bytes >= 64 { le32(descriptor, 0x28) } else { 0 };
        Ok(wide(high, le32(descriptor, 0x8)))
    }
}

impl Layout {
    fn read(superblock: &[u8]) -> Result<Self> {
        if superblock.len() < SUPERBLOCK.1 || le16(superblock, 0x38) != MAGIC {
            return damaged("it is no ext4");
        }
        let needed = le32(superblock, 0x60);
        if needed & !UNDERSTOOD != 0 || needed & FILE_TYPES == 0 {
            return unknown(format!("features {needed:#x}"));
        }
        let has_checksums = le32(superblock, 0x64) & CHECKSUMS != 0;
        let stored = le32(superblock, SUPERBLOCK_CHECKSUM);
        if has_checksums && checksum(u32::MAX, &superblock[..SUPERBLOCK_CHECKSUM]) != stored {
            return damaged("its superblock has another checksum");
        }
        let seed = match needed & SEED_GIVEN != 0 {
            true => le32(superblock, 0x270),
            false => checksum(u32::MAX, &superblock[0x68..0x78]),
        };
        let block = match le32(superblock, 0x18) {
            shift @ 0..=2 => 1024 << shift,
            shift => return unknown(format!("blocks of 2^{shift} KiB")),
        };
        let is_wide = needed & WIDE != 0;
        let layout = Self {
            block,
            blocks: wide(if is_wide { le32(superblock, 0x150) } else { 0 }, le32(superblock, 0x4)),
            inodes: le32(superblock, 0x0),
            inodes_per_group: le32(superblock, 0x28),
            inode_bytes: le16(superblock, 0x58).into(),
            descriptor_bytes: if is_wide { le16(superblock, 0xfe).into() } else { 32 },
            descriptors: u64::from(le32(superblock, 0x14)) + 1,
            seed: has_checksums.then_some(seed),
            journal: (needed & RECOVER != 0 && le32(superblock, 0x5c) & HAS_JOURNAL != 0)
                .then(|| le32(superblock, 0xe0)),
        };
        layout.checked()
    }

    fn checked(self) -> Result<Self> {
        let fits = |bytes: usize, least: usize| {
            bytes >= least && bytes <= self.block && bytes.is_power_of_two()
        };
        let sound = fits(self.inode_bytes, 128)
            && fits(self.descriptor_bytes, 32)
            && self.inodes_per_group > 0
            // Every position in bytes is a number that the kernel takes.
            && self.blocks < (i64::MAX as u64) / self.block as u64;
        if sound { Ok(self) } else { damaged("its superblock contradicts itself") }
    }
}
