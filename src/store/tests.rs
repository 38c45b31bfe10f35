//! Tests of the database against real files.

mod creates;
mod leases;

use super::*;
use crate::process::ProcessId;
use crate::vm::ledger::ResourceKind;
use crate::vm::ports::Rows;
use crate::vm::record::VmRecord;

fn record(name: &str) -> VmRecord {
    let spec = serde_json::json!({
        "image": "default", "image_digest": "0".repeat(64), "kernel_digest": "1".repeat(64),
        "vcpu": 2, "memory_mib": 512, "disk_bytes": 1024, "root_disk_bytes": 1024, "net": "none",
        "env": {}, "labels": {}, "ssh_host_key": {"private": "p", "public": "q"},
    });
    VmRecord {
        id: crate::id::VmId::random(),
        name: name.parse().expect("valid"),
        spec: serde_json::from_value(spec).expect("a spec"),
        state: crate::vm::state::State::Created,
        workspace: None,
        leased: false,
        created_at: "2026-01-01T00:00:00Z".to_owned(),
        started_at: None,
        last_touched_at: "2026-01-01T00:00:00Z".to_owned(),
    }
}

fn schema(connection: &Connection) -> Vec<String> {
    let mut select = connection
        .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
        .expect("reads");
    let rows = select.query_map([], |row| row.get(0)).expect("reads");
    rows.collect::<Result<_, _>>().expect("reads")
}

#[test]
fn schema_is_what_all_migrations_make() {
    let migrated = Connection::open_in_memory().expect("opens");
    for sql in migrate::MIGRATIONS {
        migrated.execute_batch(sql).expect("migrates");
    }
    let fresh = Connection::open_in_memory().expect("opens");
    fresh.execute_batch(include_str!("schema.sql")).expect("runs");
    assert!(!schema(&fresh).is_empty());
    assert_eq!(schema(&migrated), schema(&fresh));
}

#[tokio::test]
async fn of_two_vms_with_one_name_one_wins() {
    let folder = tempfile::tempdir().expect("tempdir");
    let store = Store::open(&folder.path().join("cove.db")).expect("opens");
    let (one, two) = (record("web"), record("web"));
    let (first, second) = tokio::join!(store.insert(&one), store.insert(&two));
    assert_eq!([&first, &second].iter().filter(|r| r.is_ok()).count(), 1);
    let error = first.and(second).expect_err("one lost");
    assert_eq!(
        (error.kind, error.message.as_str()),
        (Kind::Conflict, "there is a VM named `web` already")
    );
    assert_eq!(store.all().await.expect("lists").vms.len(), 1);
}

#[tokio::test]
async fn resources_have_rows_and_keep_the_vm_until_they_are_released() {
    let folder = tempfile::tempdir().expect("tempdir");
    let store = Store::open(&folder.path().join("cove.db")).expect("opens");
    let vm = record("web");
    store.insert(&vm).await.expect("inserted");
    let ledger = store.ledger(&vm.id);
    let process = ProcessId { pid: 7, start_ticks: u64::MAX };
    ledger.intend(ResourceKind::Monitor).await.expect("written");
    let rows = store.resources(&vm.id).await.expect("lists");
    assert!(
        rows.contains(&(ResourceKind::Folder, None))
            && rows.contains(&(ResourceKind::Monitor, None))
    );
    ledger.made(ResourceKind::Monitor, process).await.expect("written");
    assert!(
        store
            .resources(&vm.id)
            .await
            .expect("lists")
            .contains(&(ResourceKind::Monitor, Some(process)))
    );
    store.remove(&vm.id).await.expect_err("foreign keys hold");
    for kind in [ResourceKind::Monitor, ResourceKind::Folder] {
        store.released(&vm.id, kind).await.expect("released");
    }
    store.remove(&vm.id).await.expect("removed");
    assert!(store.all().await.expect("lists").vms.is_empty());
}

#[tokio::test]
async fn what_is_written_is_read_again_after_reopening() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("cove.db");
    let mut vm = record("web");
    {
        let store = Store::open(&path).expect("opens");
        store.insert(&vm).await.expect("inserted");
        vm.leased = true;
        vm.state = crate::vm::state::State::Stopped { cause: Some("it died".to_owned()) };
        store.update(&vm).await.expect("updated");
    }
    let store = Store::open(&path).expect("opens again");
    let read = store.all().await.expect("lists").vms.remove(0);
    assert_eq!((read.id, read.leased, read.state), (vm.id, true, vm.state));
}

#[tokio::test]
async fn closed_it_leaves_one_file_with_everything_in_it() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("cove.db");
    let store = Store::open(&path).expect("opens");
    store.insert(&record("web")).await.expect("inserts");
    assert!(log_of(&path).exists(), "while it is open, its log is beside it");
    store.close().await;
    assert!(!log_of(&path).exists(), "its log is in its file");
    assert!(!folder.path().join("cove.db-shm").exists(), "and its shared memory is gone");
    let refused = store.insert(&record("late")).await.expect_err("refused");
    assert_eq!(refused.message, "the database is closed");
    store.close().await;
    let again = Store::open(&path).expect("opens");
    assert_eq!(again.all().await.expect("reads").vms.len(), 1);
}

#[test]
fn a_database_from_the_future_is_refused_and_kept() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("cove.db");
    drop(Store::open(&path).expect("opens"));
    Connection::open(&path).expect("opens").pragma_update(None, "user_version", 99).expect("set");
    let error = Store::open(&path).expect_err("refused");
    assert!(error.to_string().contains("version 99"), "{error}");
    assert_eq!(error.kind(), Kind::Refused);
    assert!(path.exists());
}

#[test]
fn item_25_settings_hold_on_every_connection() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("cove.db");
    for _ in 0..2 {
        let connection = connect(&path).expect("opens");
        let get = |name| {
            connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
        };
        assert_eq!(get("journal_mode"), Ok("wal".to_owned().into()));
        assert_eq!(get("foreign_keys"), Ok(1_i64.into()));
        assert_eq!(get("busy_timeout"), Ok(5000_i64.into()));
    }
}

/// A way to spoil a row.
const SPOILT: [(&str, &str); 5] = [
    ("UPDATE vm SET state = '{}' WHERE name = 'web'", "`state`: "),
    ("UPDATE vm SET spec = x'ff' || 'no JSON' WHERE name = 'web'", ""),
    ("UPDATE vm SET workspace = '[' WHERE name = 'web'", "`workspace`: "),
    ("UPDATE vm SET name = 'Not A Name' WHERE name = 'web'", "`Not A Name` is not a valid VM name"),
    ("UPDATE vm SET id = 'no id' WHERE name = 'web'", "`no id` is not a valid VM id"),
];

#[tokio::test]
async fn a_corrupt_row_is_named_and_kept_and_costs_no_other_vm() {
    for (spoil, problem) in SPOILT {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("cove.db");
        let store = Store::open(&path).expect("opens");
        let (vm, other) = (record("web"), record("other"));
        store.insert(&vm).await.expect("inserted");
        store.insert(&other).await.expect("inserted");
        let editor = Connection::open(&path).expect("opens");
        editor.pragma_update(None, "foreign_keys", false).expect("set");
        editor.execute(spoil, []).expect("spoilt");
        let stored = store.all().await.expect("lists");
        assert_eq!(stored.vms.len(), 1, "{spoil}");
        assert_eq!(stored.vms[0].id, other.id);
        let [row] = &stored.unreadable[..] else { panic!("{spoil}: {:?}", stored.unreadable) };
        assert!(row.problem.contains(problem), "{spoil}: {}", row.problem);
        let id_is_lost = spoil.contains("SET id");
        assert_eq!(row.id.as_ref(), Some(&vm.id).filter(|_| !id_is_lost), "{spoil}");
        let name = if spoil.contains("SET name") { "Not A Name" } else { "web" };
        assert_eq!(row.name, name);
        if name == "web" {
            let error = store.insert(&record("web")).await.expect_err("its name is taken");
            assert_eq!(error.kind, Kind::Conflict);
        }
        let named: i64 = editor
            .query_row("SELECT count(*) FROM vm WHERE rowid = ?1", [row.row], |row| row.get(0))
            .expect("reads");
        assert_eq!(named, 1, "the row is there, under the number that is told");
    }
}

/// The files of a database, by name.
fn files(folder: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("reads").map(|entry| entry.expect("reads"));
    let memory = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().ends_with("-shm");
    let files = entries.filter(|entry| !memory(entry));
    let mut files: Vec<_> = files
        .map(|entry| (entry.file_name(), std::fs::read(entry.path()).expect("reads")))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_damaged_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("tempdir");
    let whole = folder.path().join("whole.db");
    {
        let store = Store::open(&whole).expect("opens");
        for number in 0..100 {
            store.insert(&record(&format!("vm-{number}"))).await.expect("inserted");
        }
    }
    let other = Connection::open(&whole).expect("opens");
    other.pragma_update(None, "wal_checkpoint", "TRUNCATE").expect("written back");
    drop(other);
    let whole = std::fs::read(&whole).expect("reads");
    let mut scribbled = whole.clone();
    scribbled[4096..8192].fill(0x55);
    let cases: [(&str, &[u8], &[u8]); 9] = [
        ("garbage", b"this is no database, but somebody's letter".as_slice(), b""),
        ("one byte", &whole[..1], b""),
        ("half a header", &whole[..50], b""),
        ("a header", &whole[..100], b""),
        ("a page", &whole[..4096], b""),
        ("half", &whole[..whole.len() / 2], b""),
        ("a page that is written over", &scribbled, b""),
        ("an empty file with a log", b"", b"what was written last"),
        ("no file but a log", b"", b"what was written last"),
    ];
    for (what, database, log) in cases {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("cove.db");
        if what != "no file but a log" {
            std::fs::write(&path, database).expect("written");
        }
        std::fs::write(log_of(&path), log).expect("written");
        let before = files(folder.path());
        for _ in 0..2 {
            let error = Store::open(&path).expect_err(what);
            assert!(matches!(error, StoreError::Damaged { .. }), "{what}: {error:?}");
            let hint = error.hint().expect("a hint");
            assert!(hint.contains("begin anew") && hint.contains("not deleted"), "{hint}");
            assert_eq!(files(folder.path()), before, "{what} is as it was");
        }
    }
}

#[test]
fn room_is_reserved_for_what_must_be_written_on_a_full_disk() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("cove.db");
    let store = Store::open(&path).expect("opens");
    let log = std::fs::metadata(log_of(&path)).expect("there");
    assert!(log.blocks() * 512 >= 1 << 20, "{} blocks", log.blocks());
    drop(store);
}
