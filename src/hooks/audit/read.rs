//! Records, for those who ask.

use std::collections::VecDeque;
use std::io;

use super::chain::{LogFile, unseal};
use crate::wire::rpc::{HookEntry, HookRecord, HookRunPage, HookRunQuery};

/// Records of one page when nobody says, and at most.
const PAGE: (u32, u32) = (100, 1000);

/// The newest records that a query asks for, oldest first. Lines that are no records are passed over: it is
/// for `verify` to complain.
pub(super) fn page(files: Vec<LogFile>, query: &HookRunQuery) -> io::Result<HookRunPage> {
    let limit = query.limit.unwrap_or(PAGE.0).clamp(1, PAGE.1) as usize;
    let mut records: VecDeque<HookRecord> = VecDeque::new();
    // Newest file first, as nobody asks for old records often.
    for file in files.into_iter().rev() {
        let mut here = VecDeque::new();
        let room = limit + 1 - records.len();
        for line in file.lines() {
            match unseal(&line?) {
                Ok(record) if wanted(&record, query) => here.push_back(record),
                Ok(_) | Err(_) => continue,
            }
            if here.len() > room {
                here.pop_front();
            }
        }
        here.append(&mut records);
        records = here;
        if records.len() > limit {
            break;
        }
    }
    let mut next = None;
    if records.len() > limit {
        records.pop_front();
        next = records.front().map(|record| record.number);
    }
    Ok(HookRunPage { records: records.into(), next })
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
