//! Addresses of VMs: each its own, for as long as it exists.

use std::collections::BTreeSet;

use super::record;
use crate::report::{Explain, Kind};
use crate::store::{Store, StoreError};
use crate::vm::address::{DEFAULT_RANGE4, Ranges, default_range6};
use crate::vm::ledger::ResourceKind;
use crate::vm::ports::Rows;
use crate::vm::record::VmRecord;
use crate::wire::rpc::NetMode;

fn ranges(range4: &str) -> Ranges {
    Ranges::new(range4.parse().expect("a range"), default_range6("m", 0)).expect("valid")
}

async fn vm(store: &Store, name: &str) -> VmRecord {
    let vm = record(name);
    store.insert(&vm).await.expect("inserted");
    vm
}

async fn delete(store: &Store, vm: &VmRecord) {
    store.released(&vm.id, ResourceKind::Folder).await.expect("released");
    store.remove(&vm.id).await.expect("removed");
}

#[tokio::test]
async fn two_hundred_at_once_get_an_address_each() {
    let folder = tempfile::tempdir().expect("tempdir");
    // A range in which first choices collide often.
    let ranges = ranges("10.203.0.0/24");
    let store = Store::open(&folder.path().join("cove.db")).expect("opens").giving(ranges);
    let mut vms = Vec::new();
    for number in 0..200 {
        vms.push(vm(&store, &format!("vm-{number}")).await);
    }
    let asked = vms.iter().map(|vm| store.lease(&vm.id));
    let slots = futures_util::future::join_all(asked).await;
    let slots: BTreeSet<u32> = slots.into_iter().map(|slot| slot.expect("an address")).collect();
    assert_eq!(slots.len(), 200);
    assert!(slots.iter().all(|slot| ranges.lease(*slot).is_some()));
    assert_eq!(store.leases().await.expect("listed").len(), 200);
}

#[tokio::test]
async fn a_vm_keeps_its_address_and_a_deleted_one_gives_it_back() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("cove.db");
    let small = ranges("10.9.8.0/29");
    let (mut vms, mut slots) = (Vec::new(), Vec::new());
    {
        let store = Store::open(&path).expect("opens").giving(small);
        for number in 0..5 {
            let vm = vm(&store, &format!("vm-{number}")).await;
            slots.push(store.lease(&vm.id).await.expect("an address"));
            vms.push(vm);
        }
    }
    let store = Store::open(&path).expect("opens again").giving(small);
    for (vm, slot) in vms.iter().zip(&slots) {
        assert_eq!(store.lease(&vm.id).await.expect("an address"), *slot);
    }
    let late = vm(&store, "late").await;
    let error = store.lease(&late.id).await.expect_err("none is left");
    assert_eq!(error.to_string(), "all 5 addresses of `10.9.8.0/29` belong to VMs");
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.hint().is_some_and(|hint| hint.contains("`range4` of `[net.bridge]`")));

    delete(&store, &vms[2]).await;
    assert_eq!(store.lease(&late.id).await.expect("an address"), slots[2]);
}

#[tokio::test]
async fn a_smaller_range_moves_only_those_that_lie_outside() {
    let folder = tempfile::tempdir().expect("tempdir");
    let store = Store::open(&folder.path().join("cove.db")).expect("opens");
    let (large, small) = (ranges(&DEFAULT_RANGE4.to_string()), ranges("10.9.8.0/29"));
    let vm = vm(&store, "web").await;
    let slot = store.clone().giving(large).lease(&vm.id).await.expect("an address");
    let moved = store.clone().giving(small).lease(&vm.id).await.expect("an address");
    assert!(moved < small.capacity());
    assert!(slot < small.capacity() || slot != moved);
    assert_eq!(store.leases().await.expect("listed"), [(vm.id, moved)]);
}

#[tokio::test]
async fn a_vm_without_a_row_gets_none() {
    let folder = tempfile::tempdir().expect("tempdir");
    let store = Store::open(&folder.path().join("cove.db")).expect("opens");
    let nobody = crate::id::VmId::random();
    assert!(matches!(store.lease(&nobody).await, Err(StoreError::NoRanges)));
    let store = store.giving(ranges("10.9.8.0/29"));
    let error = store.lease(&nobody).await.expect_err("no such VM");
    assert!(matches!(error, StoreError::Statement { .. }), "{error}");
}

#[tokio::test]
async fn a_vm_on_the_bridge_has_its_address_with_its_row_or_no_row() {
    let folder = tempfile::tempdir().expect("tempdir");
    let small = ranges("10.9.8.0/29");
    let store = Store::open(&folder.path().join("cove.db")).expect("opens").giving(small);
    let bridged = |name: &str| {
        let mut vm = record(name);
        vm.spec.net = NetMode::Bridge;
        vm
    };
    for number in 0..small.capacity() {
        store.insert(&bridged(&format!("vm-{number}"))).await.expect("inserted");
    }
    assert_eq!(store.leases().await.expect("listed").len(), 5);
    let error = store.insert(&bridged("late")).await.expect_err("none is left");
    assert!(error.message.contains("all 5 addresses"), "{error:?}");
    assert!(error.hint.is_some_and(|hint| hint.contains("`range4` of `[net.bridge]`")));
    assert_eq!(store.all().await.expect("listed").vms.len(), 5, "it has no row");
    store.insert(&record("without")).await.expect("others need no address");
}
