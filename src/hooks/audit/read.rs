//! Records, for those who ask.

use std::collections::VecDeque;
use std::io;

use super::chain::{LogFile, unseal};
use crate::wire::rpc::{HookEntry, HookRecord, HookRunPage, HookRunQuery};

/// Records of one page when nobody says, and at most.
const PAGE: (u32, u32) = (100, 1000);

/// Bytes of the lines of one page, a quarter of what an answer may have.
pub(super) const PAGE_BYTES: usize = 8 << 20;

/// The newest of the records that are put in, as many as there is room for.
#[derive(Default)]
struct Newest {
    /// Each with the bytes of its line.
    records: VecDeque<(HookRecord, usize)>,
    bytes: usize,
    /// Whether there was one more.
    more: bool,
}

impl Newest {
    fn put(&mut self, record: HookRecord, bytes: usize, (most, most_bytes): (usize, usize)) {
        self.records.push_back((record, bytes));
        self.bytes += bytes;
        while self.records.len() > most || self.bytes > most_bytes {
            let Some((_, bytes)) = self.records.pop_front() else {
                break;
            };
            self.bytes -= bytes;
            self.more = true;
        }
    }
}

/// The newest records that a query asks for, oldest first. Lines that are no records are passed over: it is
/// for `verify` to complain.
pub(super) fn page(files: Vec<LogFile>, query: &HookRunQuery) -> io::Result<HookRunPage> {
    let limit = query.limit.unwrap_or(PAGE.0).clamp(1, PAGE.1) as usize;
    let mut newest = Newest::default();
    // Newest file first, as nobody asks for old records often.
    for file in files.into_iter().rev() {
        let room = (limit - newest.records.len(), PAGE_BYTES - newest.bytes);
        let mut here = Newest::default();
        for line in file.lines() {
            let line = line?;
            match unseal(&line) {
                Ok(record) if wanted(&record, query) => here.put(record, line.len(), room),
                Ok(_) | Err(_) => {}
            }
        }
        here.records.append(&mut newest.records);
        here.bytes += newest.bytes;
        newest = here;
        if newest.more {
            break;
        }
    }
    let records: Vec<_> = newest.records.into_iter().map(|(record, _)| record).collect();
    let next = records.first().filter(|_| newest.more).map(|record| record.number);
    Ok(HookRunPage { records, next })
}

fn wanted(record: &HookRecord, query: &HookRunQuery) -> bool {
    if query.before.is_some_and(|before| record.number >= before)
        || query.after.is_some_and(|after| record.number <= after)
    {
        return false;
    }
    match &record.entry {
        HookEntry::Run(run) => {
            let vm = |vm: &String| {
                let name = run.name.as_ref().is_some_and(|name| name.as_str() == vm);
                let id = run.vm.as_ref().is_some_and(|id| id.as_str().starts_with(vm.as_str()));
                name || (id && !vm.is_empty())
            };
            query.plugin.as_ref().is_none_or(|plugin| *plugin == run.plugin)
                && query.vm.as_ref().is_none_or(vm)
        }
        HookEntry::Imported { .. }
        | HookEntry::Dropped { .. }
        | HookEntry::Cut { .. }
        | HookEntry::Anew => query.plugin.is_none() && query.vm.is_none(),
    }
}
