//! The content of an inode: a tree of extents, each a run of blocks.

use super::fields::{checksum, le16, le32, wide};
use super::{Ext4, Inode, Result, damaged, unknown};

const MAGIC: u16 = 0xf30a;

/// How long the head of a node is, and each of its entries, in bytes.
const ENTRY: usize = 12;

/// How deep a tree may be: the kernel makes none that is deeper.
const MAX_DEPTH: u16 = 5;

/// How many runs a content may have: 16 GiB, each block of it apart.
const MAX_EXTENTS: usize = 4 << 20;

/// From this length on an extent was set aside and not written: what is in its blocks is not its content.
const UNWRITTEN: u16 = 0x8000;

/// A run of blocks.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Its first block in the content.
    at: u32,
    blocks: u16,
    /// Its first block on the disk.
    first: u64,
}

/// The content of an inode.
#[derive(Debug)]
pub(in super::super) struct Content<'a> {
    system: &'a Ext4,
    extents: Vec<Extent>,
}

impl Ext4 {
    /// The content of a file, a folder or a long link.
    pub(in super::super) fn content(&self, inode: &Inode) -> Result<Content<'_>> {
        let mut tree = Tree { system: self, inode, extents: Vec::new(), end: 0 };
        if inode.size > 0 {
            inode.check_extents()?;
            tree.node(&inode.place, None)?;
        }
        Ok(Content { system: self, extents: tree.extents })
    }
}

impl Content<'_> {
    /// Reads bytes from a position on. What is not there, or was never written, is zeros.
    pub(in super::super) fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let block = self.system.layout.block as u64;
        into.fill(0);
        let end = at.saturating_add(into.len() as u64);
        let bytes = |extent: &Extent| {
            let start = u64::from(extent.at) * block;
            start..start + u64::from(extent.blocks) * block
        };
        let first = self.extents.partition_point(|extent| bytes(extent).end <= at);
        for extent in &self.extents[first..] {
            let there = bytes(extent);
            if there.start >= end {
                break;
            }
            let (from, to) = (there.start.max(at), there.end.min(end));
            let place = |position: u64| usize::try_from(position - at).unwrap_or_default();
            let into = &mut into[place(from)..place(to)];
            let (skipped, ahead) = ((from - there.start) / block, (from - there.start) % block);
            if ahead == 0 {
                self.system.read_blocks(extent.first + skipped, into)?;
            } else {
                let ahead = usize::try_from(ahead).unwrap_or_default();
                let mut whole = vec![0; ahead + into.len()];
                self.system.read_blocks(extent.first + skipped, &mut whole)?;
                into.copy_from_slice(&whole[ahead..]);
            }
        }
        Ok(())
    }

    /// Where a block of the content is on the disk; none in a hole.
    pub(super) fn block(&self, number: u32) -> Option<u64> {
        let after = self.extents.partition_point(|extent| extent.at <= number);
        let extent = self.extents.get(after.checked_sub(1)?)?;
        let skipped = number - extent.at;
        (skipped < u32::from(extent.blocks)).then(|| extent.first + u64::from(skipped))
    }
}

struct Tree<'a> {
    system: &'a Ext4,
    inode: &'a Inode,
    extents: Vec<Extent>,
    /// The block of the content that comes next. It only grows, and no node is empty, so that no tree is read
    /// for ever.
    end: u64,
}

impl Tree<'_> {
    fn wrong<T>(&self) -> Result<T> {
        damaged(format!("the extents of inode {}", self.inode.number))
    }

    /// Takes what is below a node. It has the depth that its parent says; the root has any.
    fn node(&mut self, node: &[u8], due: Option<u16>) -> Result<()> {
        let (count, depth) = (usize::from(le16(node, 2)), le16(node, 6));
        let is_due = due.map_or(depth <= MAX_DEPTH, |due| depth == due && count > 0);
        if le16(node, 0) != MAGIC || !is_due || (count + 1) * ENTRY > node.len() {
            return self.wrong();
        }
        for entry in node[ENTRY..(count + 1) * ENTRY].chunks_exact(ENTRY) {
            if depth == 0 {
                self.leaf(entry)?;
            } else {
                let below = self.below(wide(le16(entry, 8).into(), le32(entry, 4)))?;
                self.node(&below, Some(depth - 1))?;
            }
        }
        Ok(())
    }

    fn below(&self, number: u64) -> Result<Vec<u8>> {
        let node = self.system.block(number)?;
        let Some(seed) = self.inode.seed else {
            return Ok(node);
        };
        let end = ENTRY * (usize::from(le16(&node, 4)) + 1);
        if end + 4 > node.len() || checksum(seed, &node[..end]) != le32(&node, end) {
            return self.wrong();
        }
        Ok(node)
    }

    fn leaf(&mut self, entry: &[u8]) -> Result<()> {
        let (at, length) = (le32(entry, 0), le16(entry, 4));
        let (blocks, is_written) = match length {
            0..=UNWRITTEN => (length, true),
            longer => (longer - UNWRITTEN, false),
        };
        let first = wide(le16(entry, 6).into(), le32(entry, 8));
        if blocks == 0 || u64::from(at) < self.end {
            return self.wrong();
        }
        self.end = u64::from(at) + u64::from(blocks);
        if !is_written {
            return Ok(());
        }
        if self.extents.len() == MAX_EXTENTS {
            return unknown(format!("inode {} in too many pieces", self.inode.number));
        }
        self.extents.push(Extent { at, blocks, first });
        Ok(())
    }
}
