//! Folders: names and their inodes, block by block.
//!
//! The index of a large folder is made of blocks that a reader who does not know it takes for empty ones, so
//! that all folders are read from their first block to their last.

use super::fields::{checksum, le16, le32};
use super::{Ext4, Ext4Error, Inode, Result};

/// How long an entry is without its name, in bytes.
const HEAD: usize = 8;

/// The last entry of a block with a checksum: no name, and this for its type.
const TAIL: usize = 12;
const TAIL_TYPE: u8 = 0xde;

/// A name in a folder, which can be one on this host, and its inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Entry {
    pub(in super::super) name: Vec<u8>,
    pub(in super::super) inode: u32,
}

impl Ext4 {
    /// Calls `take` for the names in each block of a folder, but `.` and `..`, until it returns something.
    pub(in super::super) fn names<T, E: From<Ext4Error>>(
        &self,
        folder: &Inode,
        mut take: impl FnMut(Vec<Entry>) -> std::result::Result<Option<T>, E>,
    ) -> std::result::Result<Option<T>, E> {
        let content = self.content(folder)?;
        let blocks = folder.size.div_ceil(self.layout.block as u64);
        for number in 0..u32::try_from(blocks).unwrap_or(u32::MAX) {
            // A hole would have no entry.
            let Some(block) = content.block(number) else {
                return Err(wrong(folder).into());
            };
            let entries = entries(&self.block(block)?, folder)?;
            if let Some(found) = take(entries)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The inode of a name in a folder.
    pub(in super::super) fn look_up(&self, folder: &Inode, name: &[u8]) -> Result<Option<Inode>> {
        let found = self.names(folder, |entries| {
            Ok::<_, Ext4Error>(entries.into_iter().find(|entry| entry.name == name))
        })?;
        found.map(|entry| self.inode(entry.inode)).transpose()
    }
}

fn wrong(folder: &Inode) -> Ext4Error {
    Ext4Error::Damaged(format!("the folder of inode {}", folder.number))
}

fn entries(block: &[u8], folder: &Inode) -> Result<Vec<Entry>> {
    let (mut entries, mut at) = (Vec::new(), 0);
    while at < block.len() {
        let rest = &block[at..];
        if rest.len() < HEAD {
            return Err(wrong(folder));
        }
        let (inode, length) = (le32(rest, 0), usize::from(le16(rest, 4)));
        let named = HEAD + usize::from(rest[6]);
        if length < named || length % 4 != 0 || length > rest.len() {
            return Err(wrong(folder));
        }
        let is_tail = inode == 0 && length == TAIL && rest.len() == TAIL && rest[7] == TAIL_TYPE;
        if let (true, Some(seed)) = (is_tail, folder.seed)
            && checksum(seed, &block[..at]) != le32(rest, HEAD)
        {
            return Err(wrong(folder));
        }
        let name = &rest[HEAD..named];
        if inode != 0 && !matches!(name, b"." | b"..") {
            if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
                return Err(wrong(folder));
            }
            entries.push(Entry { name: name.to_vec(), inode });
        }
        at += length;
    }
    Ok(entries)
}
