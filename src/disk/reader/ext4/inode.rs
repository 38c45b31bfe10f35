//! Inodes: what is behind a name.

use super::fields::{checksum, checksum_without, le16, le32, wide};
use super::{Ext4, Result, damaged, unknown};

/// The inode of the root folder.
pub(in super::super) const ROOT: u32 = 2;

/// Where the halves of its checksum are.
const CHECKSUM_LOW: usize = 0x7c;
const CHECKSUM_HIGH: usize = 0x82;

/// How long it is without what later versions of ext4 have added, in bytes.
const OLD_BYTES: usize = 128;

/// Where its content is: a tree of extents, or the target of a link.
const PLACE: std::ops::Range<usize> = 0x28..0x64;

const ENCRYPTED: u32 = 0x800;
const EXTENTS: u32 = 0x8_0000;
const INLINE: u32 = 0x1000_0000;

/// The longest target of a link in bytes: the kernel takes no more.
const MAX_TARGET: u64 = 4095;

/// What is behind a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    File,
    Folder,
    Link,
    /// A device, a pipe or a socket.
    Special,
}

/// An inode.
#[derive(Debug, Clone)]
pub(in super::super) struct Inode {
    pub(in super::super) kind: Kind,
    /// Its permission bits, and those above them.
    pub(in super::super) mode: u32,
    /// The length of its content in bytes.
    pub(in super::super) size: u64,
    /// When it was changed, in seconds and nanoseconds after that.
    pub(in super::super) modified: (i64, i64),
    pub(super) number: u32,
    pub(super) flags: u32,
    pub(super) place: [u8; PLACE.end - PLACE.start],
    /// What checksums of its blocks begin with, where there are any.
    pub(super) seed: Option<u32>,
}

impl Ext4 {
    /// The inode of this number.
    pub(in super::super) fn inode(&self, number: u32) -> Result<Inode> {
        let layout = &self.layout;
        if number == 0 || number > layout.inodes {
            return damaged(format!("there is no inode {number}"));
        }
        let (group, index) =
            ((number - 1) / layout.inodes_per_group, (number - 1) % layout.inodes_per_group);
        let at = u64::from(index) * layout.inode_bytes as u64;
        let block = layout.block as u64;
        let first = self.inode_table(group)?.saturating_add(at / block);
        let content = self.block(first)?;
        let at = usize::try_from(at % block).unwrap_or_default();
        let bytes = &content[at..at + layout.inode_bytes];
        let seed = layout.seed.map(|seed| {
            let seed = checksum(seed, &number.to_le_bytes());
            checksum(seed, &bytes[0x64..0x68])
        });
        let inode = read(bytes, number, seed)?;
        match seed {
            Some(seed) if !is_sound(bytes, seed) => {
                damaged(format!("inode {number} has another checksum"))
            }
            Some(_) | None => Ok(inode),
        }
    }

    /// The target of a link.
    pub(in super::super) fn target(&self, link: &Inode) -> Result<Vec<u8>> {
        let size = usize::try_from(link.size.min(MAX_TARGET + 1)).unwrap_or_default();
        if size == 0 || link.size > MAX_TARGET {
            return damaged(format!("the link of inode {} leads nowhere", link.number));
        }
        // Short ones are in the place of the tree of extents.
        let target = if size < link.place.len() {
            link.place[..size].to_vec()
        } else {
            let mut target = vec![0; size];
            self.content(link)?.read(0, &mut target)?;
            target
        };
        match target.contains(&0) {
            true => damaged(format!("the link of inode {} leads nowhere", link.number)),
            false => Ok(target),
        }
    }
}

impl Inode {
    /// Refuses a content that does not lie in extents.
    pub(super) fn check_extents(&self) -> Result<()> {
        if self.flags & (ENCRYPTED | INLINE) != 0 || self.flags & EXTENTS == 0 {
            return unknown(format!("inode {} with flags {:#x}", self.number, self.flags));
        }
        Ok(())
    }
}

pub(super) fn read(bytes: &[u8], number: u32, seed: Option<u32>) -> Result<Inode> {
    let mode = u32::from(le16(bytes, 0x0));
    let kind = match mode >> 12 {
        0x8 => Kind::File,
        0x4 => Kind::Folder,
        0xa => Kind::Link,
        0x1 | 0x2 | 0x6 | 0xc => Kind::Special,
        _ => return damaged(format!("inode {number} is nothing that ext4 knows")),
    };
    let extra = if has_extra(bytes, 0x8c) { le32(bytes, 0x88) } else { 0 };
    // Two bits more, for the time from 2038 on.
    let seconds = i64::from(le32(bytes, 0x10).cast_signed()) + (i64::from(extra & 3) << 32);
    let mut place = [0; PLACE.end - PLACE.start];
    place.copy_from_slice(&bytes[PLACE]);
    Ok(Inode {
        kind,
        mode: mode & 0o7777,
        size: wide(le32(bytes, 0x6c), le32(bytes, 0x4)),
        modified: (seconds, i64::from(extra >> 2).min(999_999_999)),
        number,
        flags: le32(bytes, 0x20),
        place,
        seed,
    })
}

/// Whether the part that was added later goes up to this byte.
fn has_extra(bytes: &[u8], end: usize) -> bool {
    bytes.len() > OLD_BYTES
        && OLD_BYTES + usize::from(le16(bytes, 0x80)) >= end
        && bytes.len() >= end
}

fn is_sound(bytes: &[u8], seed: u32) -> bool {
    let low = CHECKSUM_LOW..CHECKSUM_LOW + 2;
    let (old, later) = bytes.split_at(OLD_BYTES);
    let sum = checksum_without(seed, old, low);
    let stored = le16(bytes, CHECKSUM_LOW);
    if !has_extra(bytes, CHECKSUM_HIGH + 2) {
        return checksum(sum, later).to_le_bytes()[..2] == stored.to_le_bytes();
    }
    let high = CHECKSUM_HIGH - OLD_BYTES..CHECKSUM_HIGH + 2 - OLD_BYTES;
    let stored = u32::from(le16(bytes, CHECKSUM_HIGH)) << 16 | u32::from(stored);
    checksum_without(sum, later, high) == stored
}
