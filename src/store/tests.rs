//! Tests of the database against real files.

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
    assert_eq!(store.all().await.expect("lists").len(), 1);
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
    assert!(store.all().await.expect("lists").is_empty());
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
    let read = store.all().await.expect("lists").remove(0);
    assert_eq!((read.id, read.leased, read.state), (vm.id, true, vm.state));
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

#[tokio::test]
async fn a_corrupt_row_is_named_and_kept() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("cove.db");
    let store = Store::open(&path).expect("opens");
    let vm = record("web");
    store.insert(&vm).await.expect("inserted");
    let other = Connection::open(&path).expect("opens");
    other.execute("UPDATE vm SET state = '{}'", []).expect("spoilt");
    let error = store.all().await.expect_err("refused");
    assert!(error.message.contains(vm.id.as_str()), "{error}");
}
