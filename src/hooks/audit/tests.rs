//! The chain, byte by byte, and its bounds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::chain::{open_all, path, verify};
use super::writer::Writer;
use super::*;
use crate::hooks::tests_support::User;
use crate::id::Digest;
use crate::vm::plan::{Content, PlannedStep};
use crate::wire::guest::PlanStep;
use crate::wire::rpc::HookRecord;

/// An entry with a number in it.
fn entry(number: u64) -> HookEntry {
    HookEntry::Dropped { runs: vec![number, 1000 + number] }
}

fn written(folder: &Path, limit: u64, count: u64) -> Writer {
    let mut writer = Writer::open(folder, limit).expect("opens");
    for number in 0..count {
        writer.append(vec![entry(number)]).expect("appended");
    }
    writer
}

fn checked(folder: &Path) -> HookChain {
    verify(open_all(folder).expect("opens"), None).expect("read")
}

fn records(folder: &Path) -> Vec<HookRecord> {
    let files = open_all(folder).expect("opens");
    read::page(files, &HookRunQuery { limit: Some(1000), ..HookRunQuery::default() })
        .expect("read")
        .records
}

#[test]
fn a_chain_holds_across_restarts_and_is_for_its_user_only() {
    let folder = tempfile::tempdir().expect("tempdir");
    assert_eq!(checked(folder.path()).records, 0);
    for round in 1..=3 {
        drop(written(folder.path(), FILE_BYTES, 5));
        let chain = checked(folder.path());
        assert_eq!((chain.records, chain.first, chain.last), (5 * round, 1, 5 * round));
        assert_eq!((chain.cuts, chain.broken), (0, None));
    }
    let mode = fs::metadata(path(folder.path(), 0)).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Every bit of the first, a middle and the last line, their digests and newlines included.
#[test]
fn no_byte_changes_unseen() {
    let folder = tempfile::tempdir().expect("tempdir");
    drop(written(folder.path(), FILE_BYTES, 3));
    let file = path(folder.path(), 0);
    let good = fs::read(&file).expect("there");
    for index in 0..good.len() {
        for bit in [0x01, 0x20, 0x80] {
            let mut bad = good.clone();
            bad[index] ^= bit;
            fs::write(&file, &bad).expect("written");
            let broken = checked(folder.path()).broken.expect("it breaks");
            let line = 1 + good[..index].iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!((broken.line, broken.file.as_str()), (line, "hooks.jsonl"), "byte {index}");
        }
    }
}

#[test]
fn lines_are_neither_removed_nor_swapped_nor_doubled_unseen() {
    let folder = tempfile::tempdir().expect("tempdir");
    let writer = written(folder.path(), FILE_BYTES, 4);
    let file = path(folder.path(), 0);
    let good = fs::read_to_string(&file).expect("there");
    let lines: Vec<&str> = good.lines().collect();
    for order in
        [vec![0, 2, 3], vec![0, 2, 1, 3], vec![0, 0, 1, 2, 3], vec![0, 1, 2, 2], vec![3, 0]]
    {
        let text: String = order.iter().map(|line: &usize| format!("{}\n", lines[*line])).collect();
        fs::write(&file, text).expect("written");
        assert!(checked(folder.path()).broken.is_some(), "{order:?}");
    }
    // The end alone is known to who has the log open.
    fs::write(&file, format!("{}\n", lines[..3].join("\n"))).expect("written");
    assert_eq!(checked(folder.path()).broken, None);
    let chain = verify(open_all(folder.path()).expect("opens"), Some(writer.end()));
    assert!(chain.expect("read").broken.expect("seen").reason.contains("is not the last one"));
}

#[test]
fn a_line_that_was_cut_off_is_removed_and_noted_wherever_it_was_cut() {
    let folder = tempfile::tempdir().expect("tempdir");
    drop(written(folder.path(), FILE_BYTES, 2));
    let file = path(folder.path(), 0);
    let good = fs::read(&file).expect("there");
    let begin = good.iter().position(|byte| *byte == b'\n').expect("two lines") + 1;
    for end in begin + 1..good.len() {
        fs::write(&file, &good[..end]).expect("written");
        assert!(checked(folder.path()).broken.expect("seen").reason.contains("is cut off"));
        drop(Writer::open(folder.path(), FILE_BYTES).expect("opens"));
        let chain = checked(folder.path());
        assert_eq!((chain.records, chain.cuts, chain.broken), (2, 1, None), "{end}");
        let expected =
            HookEntry::Cut { bytes: (end - begin) as u64, sha256: Digest::of(&good[begin..end]) };
        assert_eq!(records(folder.path())[1].entry, expected);
    }
}

#[test]
fn a_damaged_end_does_not_stop_the_log_and_stays_visible() {
    let folder = tempfile::tempdir().expect("tempdir");
    drop(written(folder.path(), FILE_BYTES, 2));
    let file = path(folder.path(), 0);
    let mut bad = fs::read(&file).expect("there");
    let last = bad.len() - 20;
    bad[last] ^= 1;
    fs::write(&file, bad).expect("written");
    drop(written(folder.path(), FILE_BYTES, 2));
    assert_eq!(checked(folder.path()).broken.expect("seen").line, 2);
    let kinds: Vec<_> = records(folder.path()).into_iter().map(|record| record.entry).collect();
    assert_eq!(kinds, [entry(0), HookEntry::Anew, entry(0), entry(1)]);
}

#[test]
fn the_chain_goes_on_from_file_to_file_and_the_oldest_go() {
    let folder = tempfile::tempdir().expect("tempdir");
    let mut writer = written(folder.path(), 2000, 200);
    let chain = checked(folder.path());
    assert_eq!((chain.last, &chain.broken), (200, &None));
    assert!(chain.first > 1 && chain.records == 200 - chain.first + 1, "{chain:?}");
    let files = fs::read_dir(folder.path()).expect("there").count();
    assert_eq!(files, OLD_FILES as usize + 1);
    for age in 0..=OLD_FILES {
        assert!(fs::metadata(path(folder.path(), age)).expect("there").len() <= 2000);
    }
    // A new file that nothing was written to yet goes on where the older one ends.
    assert_eq!(writer.append(vec![entry(7)]).expect("appended"), 201);
    for age in (0..OLD_FILES).rev() {
        fs::rename(path(folder.path(), age), path(folder.path(), age + 1)).expect("renamed");
    }
    drop(written(folder.path(), 2000, 1));
    let chain = checked(folder.path());
    assert_eq!((chain.last, chain.broken), (202, None));
    fs::remove_file(path(folder.path(), 2)).expect("removed");
    assert!(checked(folder.path()).broken.expect("seen").reason.contains("one is missing"));
}

#[test]
fn pages_go_back_in_time() {
    let folder = tempfile::tempdir().expect("tempdir");
    drop(written(folder.path(), 2000, 20));
    let page = |before, after, limit| {
        let query = HookRunQuery { before, after, limit: Some(limit), ..HookRunQuery::default() };
        let page = read::page(open_all(folder.path()).expect("opens"), &query).expect("read");
        let numbers: Vec<_> = page.records.iter().map(|record| record.number).collect();
        (numbers, page.next)
    };
    assert_eq!(page(None, None, 3), (vec![18, 19, 20], Some(18)));
    assert_eq!(page(Some(18), None, 3), (vec![15, 16, 17], Some(15)));
    assert_eq!(page(None, Some(18), 3), (vec![19, 20], None));
    let (all, next) = page(None, None, 1000);
    assert_eq!((all.last(), next), (Some(&20), None));
    assert!(all.is_sorted() && all.len() > 10, "{all:?}");
}

/// A disk that is full takes a part of a line, and nothing of it stays.
#[test]
fn what_cannot_be_written_whole_is_not_written_at_all() {
    let folder = tempfile::tempdir().expect("tempdir");
    let mut writer = written(folder.path(), FILE_BYTES, 2);
    let end = writer.end();
    writer.replace_file(fs::File::options().write(true).open("/dev/full").expect("there"));
    writer.append(vec![entry(9)]).expect_err("full");
    assert_eq!(writer.end(), end);
    let chain = checked(folder.path());
    assert_eq!((chain.records, chain.broken), (2, None));
}

/// As many at once as no file holds.
#[test]
fn no_file_is_larger_than_it_may_be() {
    let folder = tempfile::tempdir().expect("tempdir");
    let mut writer = written(folder.path(), 2000, 0);
    assert_eq!(writer.append((0..60).map(entry).collect()).expect("appended"), 1);
    let chain = checked(folder.path());
    assert_eq!((chain.last, &chain.broken), (60, &None));
    for age in 0..=OLD_FILES {
        let length = fs::metadata(path(folder.path(), age)).expect("there").len();
        assert!(length <= 2000, "file {age} has {length} bytes");
    }
}

#[test]
fn a_page_is_never_more_than_an_answer_may_be() {
    let folder = tempfile::tempdir().expect("tempdir");
    let mut writer = written(folder.path(), FILE_BYTES, 0);
    // Three of these are more than a page.
    let runs = vec![u64::MAX; read::PAGE_BYTES * 3 / 8 / 21];
    for _ in 0..4 {
        writer.append(vec![HookEntry::Dropped { runs: runs.clone() }]).expect("appended");
    }
    let page = |before| {
        let query = HookRunQuery { before, ..HookRunQuery::default() };
        let page = read::page(open_all(folder.path()).expect("opens"), &query).expect("read");
        let numbers: Vec<_> = page.records.iter().map(|record| record.number).collect();
        (numbers, page.next)
    };
    assert_eq!(page(None), (vec![3, 4], Some(3)));
    assert_eq!(page(Some(3)), (vec![1, 2], None));
}

#[test]
fn a_list_has_room_for_so_many_bytes_and_says_how_much_more_there_was() {
    for (name, count, kept) in [("short", 100, 100), ("short", 300, 256), ("", 0, 0)] {
        let mut left_out = 0;
        let list = entry::bounded((0..count).map(|_| name), &mut left_out);
        assert_eq!((list.len(), left_out), (kept, (count - kept) as u64), "{count}");
    }
    // Quotation marks take two bytes in a line.
    for name in ["x".repeat(512), "\"".repeat(512)] {
        let mut left_out = 1;
        let list = entry::bounded((0..256).map(|_| name.clone()), &mut left_out);
        let bytes = serde_json::to_vec(&list).expect("plain data").len();
        assert!(bytes <= entry::LIST_BYTES && bytes > entry::LIST_BYTES * 9 / 10, "{bytes}");
        assert_eq!(left_out, 1 + 256 - list.len() as u64);
    }
}

#[tokio::test]
async fn long_names_make_no_long_record() {
    let mut user = User::new();
    user.install(&user.settings.standard_folder, "every-hook", "every-hook", |manifest| manifest);
    let long = "\"".repeat(250);
    let steps = (0..200).map(|n| toml::Value::from(format!("write every-hook/{long}/{n}=x")));
    let table = user.inputs.settings.entry("every-hook".parse().expect("an id")).or_default();
    table.insert(HookPoint::PrepareWorkDisk.to_string(), steps.collect::<Vec<_>>().into());
    let host = user.host().await;
    host.prepare_work_disk(&user.inputs).await.expect("it runs");
    let page = host.runs(HookRunQuery::default()).await.expect("read");
    let [HookRecord { entry: HookEntry::Run(run), .. }] = &page.records[..] else {
        panic!("{page:?}");
    };
    assert!(run.left_out > 0 && run.writes.len() as u64 + run.left_out == 200, "{run:?}");
    let line = serde_json::to_vec(&page.records[0]).expect("plain data").len();
    assert!(line < entry::LIST_BYTES + 4096, "{line} bytes");
}

/// A plan that imports so many empty files.
fn imports(count: usize) -> Imports {
    let step = |number: usize| PlannedStep {
        step: PlanStep::WriteFile { path: format!("file-{number}"), mode: 0o644, size: 0 },
        content: Content::HostFile { file: tempfile::tempfile().expect("a file"), size: 0 },
    };
    Imports::of(&(0..count).map(step).collect::<Vec<_>>())
}

/// The log says of each imported file either its digest or that it has none.
#[test]
fn files_without_a_digest_are_counted() {
    let folder = tempfile::tempdir().expect("tempdir");
    let writer = Arc::new(Mutex::new(written(folder.path(), FILE_BYTES, 0)));
    let (digesting, work) = Digesting::new(writer);
    digesting.add(1, imports(300));
    for run in 2..=20 {
        digesting.add(run, imports(1));
    }
    digesting.add(21, imports(0));
    drop(digesting);
    work.until_closed();
    let mut told: Vec<(u64, u64, u64)> = Vec::new();
    for record in records(folder.path()) {
        let HookEntry::Imported { run, files, left_out } = record.entry else {
            panic!("{record:?}");
        };
        assert!(files.iter().all(|file| file.sha256 == Some(Digest::of(&[]))), "{files:?}");
        told.push((run, files.len() as u64, left_out));
    }
    told.sort_unstable();
    let (run, digested, left_out) = told[0];
    assert_eq!((run, digested + left_out), (1, 300));
    assert!(left_out >= 44 && digested > 100, "{told:?}");
    assert_eq!(told.len(), 20, "nothing is told of what imported nothing: {told:?}");
    let without = told.iter().filter(|(_, digested, left_out)| (*digested, *left_out) == (0, 1));
    // Sixteen wait, the first among them.
    assert_eq!(without.count(), 4, "{told:?}");
    assert_eq!(checked(folder.path()).broken, None);
}
