//! What is in the journal and not yet in its place: the newest content of blocks, found and remembered. Nothing
//! is written.
//!
//! ```text
//!  superblock │ descriptor · content … · revocations … · commit │ descriptor … commit │ (older, or half)
//!             └ start, then round and round up to here ──────────────────────────────▶ end
//! ```
//!
//! As the kernel does it (`jbd2/recovery.c`): a transaction counts once its commit is there; a revocation takes
//! back what was written to the block up to its own transaction. A checksum that is wrong in what counts fails
//! the whole: a guest's kernel has means to go on that a reader has not.

use std::collections::BTreeMap;

use super::fields::{be32, checksum, checksum_without, wide};
use super::{Content, Ext4, Replayed, Result, damaged, unknown};

/// The mark at the beginning of the journal's own blocks.
pub(super) const MAGIC: u32 = 0xc03b_3998;

const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCK: u32 = 4;
const REVOCATIONS: u32 = 5;

/// How long the head of such a block is, in bytes.
const HEAD: usize = 12;
/// How long the head of one with revocations is.
const REVOCATIONS_HEAD: usize = 16;
/// How long the checksum at the end is.
const TAIL: usize = 4;
/// How long a tag is, and what may follow it.
const TAG: usize = 16;
const ID: usize = 16;
/// How long the superblock is.
const SUPERBLOCK_BYTES: usize = 1024;

const WIDE: u32 = 0x2;
/// Checksums as the kernel makes them since Linux 3.18: always, where metadata has any.
const CHECKSUMS: u32 = 0x10;
/// Revocations, 64-bit, checksums.
const UNDERSTOOD: u32 = 0x1 | WIDE | CHECKSUMS;

const ESCAPED: u32 = 0x1;
const SAME_ID: u32 = 0x2;
const LAST: u32 = 0x8;

/// A block's content in the journal.
struct Write {
    block: u64,
    to: Replayed,
    checksum: u32,
    sequence: u32,
}

struct Journal<'a> {
    system: &'a Ext4,
    content: Content<'a>,
    /// The first block that is not the superblock, and the end.
    first: u32,
    length: u32,
    is_wide: bool,
    seed: u32,
}

/// What a transaction has so far.
#[derive(Default)]
struct Transaction {
    writes: Vec<Write>,
    revoked: Vec<u64>,
}

/// Where the newest content of blocks is that the journal has.
pub(super) fn replay(system: &Ext4, inode: u32) -> Result<BTreeMap<u64, Replayed>> {
    let inode = system.inode(inode)?;
    let content = system.content(&inode)?;
    let Some(place) = content.block(0) else {
        return damaged("its journal has no beginning");
    };
    let superblock = system.block(place)?;
    let superblock = &superblock[..SUPERBLOCK_BYTES];
    if be32(superblock, 0) != MAGIC || be32(superblock, 4) != SUPERBLOCK {
        return damaged("its journal is none");
    }
    let (start, sequence) = (be32(superblock, 0x1c), be32(superblock, 0x18));
    if start == 0 {
        return Ok(BTreeMap::new());
    }
    let features = be32(superblock, 0x28);
    if features & !UNDERSTOOD != 0 || features & CHECKSUMS == 0 {
        return unknown(format!("a journal with features {features:#x}"));
    }
    if checksum_without(u32::MAX, superblock, 0xfc..0x100) != be32(superblock, 0xfc) {
        return damaged("the beginning of its journal has another checksum");
    }
    let journal = Journal {
        system,
        content,
        first: be32(superblock, 0x14),
        length: be32(superblock, 0x10),
        is_wide: features & WIDE != 0,
        seed: checksum(u32::MAX, &superblock[0x30..0x40]),
    };
    let is_sound = journal.first > 0
        && (journal.first..journal.length).contains(&start)
        && usize::try_from(be32(superblock, 0xc)).ok() == Some(system.layout.block);
    if !is_sound {
        return damaged("the beginning of its journal contradicts itself");
    }
    journal.newest(start, sequence)
}

impl Journal<'_> {
    /// Reads all transactions that are whole.
    fn newest(&self, start: u32, mut sequence: u32) -> Result<BTreeMap<u64, Replayed>> {
        let (mut writes, mut revoked) = (Vec::new(), BTreeMap::new());
        let mut transaction = Transaction::default();
        let mut at = start;
        // Nothing is longer than once round.
        let mut left = self.length - self.first;
        while left > 0 {
            let (_, block) = self.block(at)?;
            let (at_now, is) = (at, be32(&block, 4));
            if be32(&block, 0) != MAGIC || be32(&block, 8) != sequence {
                break;
            }
            at = self.after(at);
            left -= 1;
            match is {
                DESCRIPTOR => {
                    self.check_tail(&block, at_now)?;
                    let count =
                        self.describe(&block, &mut at, sequence, &mut transaction.writes)?;
                    left = left.saturating_sub(count);
                }
                REVOCATIONS => {
                    self.check_tail(&block, at_now)?;
                    transaction.revoked.extend(self.revocations(&block, at_now)?);
                }
                COMMIT => {
                    if checksum_without(self.seed, &block, 16..20) != be32(&block, 16) {
                        return wrong(at_now);
                    }
                    let Transaction { writes: whole, revoked: back } =
                        std::mem::take(&mut transaction);
                    writes.extend(whole);
                    revoked.extend(back.into_iter().map(|block| (block, sequence)));
                    sequence = sequence.wrapping_add(1);
                }
                _ => return unknown(format!("a block of type {is} in its journal")),
            }
        }
        self.settle(writes, &revoked)
    }

    /// The blocks that count, each with the last that was written to it.
    fn settle(
        &self,
        writes: Vec<Write>,
        revoked: &BTreeMap<u64, u32>,
    ) -> Result<BTreeMap<u64, Replayed>> {
        let mut newest = BTreeMap::new();
        for write in writes {
            let is_back = |last: &u32| write.sequence.wrapping_sub(*last).cast_signed() <= 0;
            if revoked.get(&write.block).is_some_and(is_back) {
                continue;
            }
            let content = self.system.block(write.to.block)?;
            let seed = checksum(self.seed, &write.sequence.to_be_bytes());
            if checksum(seed, &content) != write.checksum {
                return damaged("a content in its journal has another checksum");
            }
            newest.insert(write.block, write.to);
        }
        Ok(newest)
    }

    /// A block of the journal, and where it is.
    fn block(&self, at: u32) -> Result<(u64, Vec<u8>)> {
        let place = self.place(at)?;
        Ok((place, self.system.block(place)?))
    }

    fn place(&self, at: u32) -> Result<u64> {
        match self.content.block(at) {
            Some(place) => Ok(place),
            None => damaged("its journal has a hole"),
        }
    }

    /// The block after one: after the last comes the first.
    fn after(&self, at: u32) -> u32 {
        if at + 1 < self.length { at + 1 } else { self.first }
    }

    fn check_tail(&self, block: &[u8], at: u32) -> Result<()> {
        let end = block.len() - TAIL;
        let is_sound = checksum_without(self.seed, block, end..block.len()) == be32(block, end);
        if is_sound { Ok(()) } else { wrong(at) }
    }

    /// Takes the tags of a descriptor, whose contents begin at `at`; leaves it behind them.
    fn describe(
        &self,
        block: &[u8],
        at: &mut u32,
        sequence: u32,
        writes: &mut Vec<Write>,
    ) -> Result<u32> {
        let (mut tag, mut count) = (HEAD, 0);
        while tag + TAG <= block.len() - TAIL {
            let flags = be32(block, tag + 4);
            let high = if self.is_wide { be32(block, tag + 8) } else { 0 };
            let to = Replayed { block: self.place(*at)?, escaped: flags & ESCAPED != 0 };
            let checksum = be32(block, tag + 12);
            writes.push(Write { block: wide(high, be32(block, tag)), to, checksum, sequence });
            *at = self.after(*at);
            count += 1;
            tag += TAG + if flags & SAME_ID == 0 { ID } else { 0 };
            if flags & LAST != 0 {
                break;
            }
        }
        Ok(count)
    }

    fn revocations(&self, block: &[u8], at: u32) -> Result<Vec<u64>> {
        let end = usize::try_from(be32(block, HEAD)).unwrap_or(usize::MAX);
        if end < REVOCATIONS_HEAD || end > block.len() - TAIL {
            return wrong(at);
        }
        let records = &block[REVOCATIONS_HEAD..end];
        Ok(match self.is_wide {
            true => records.chunks_exact(8).map(|it| wide(be32(it, 0), be32(it, 4))).collect(),
            false => records.chunks_exact(4).map(|it| be32(it, 0).into()).collect(),
        })
    }
}

fn wrong<T>(at: u32) -> Result<T> {
    damaged(format!("block {at} of its journal has another checksum"))
}
