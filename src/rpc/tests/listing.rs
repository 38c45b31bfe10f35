//! Long lists come in pages.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Served, code};
use crate::id::VmId;
use crate::vm::record::VmRecord;
use crate::vm::tests::wish;
use crate::wire::rpc::{self, CreateVm};

/// A daemon that finds so many VMs when it starts.
async fn with_vms(count: usize) -> Served {
    let earlier = Served::new();
    let wanted = CreateVm { start: Some(false), ..wish("vm") };
    earlier.services.vms.create(wanted, None).await.expect("made");
    let row = earlier.world.host().rows.pop().expect("its row");
    let served = Served::new();
    let rows = (0..count).map(|number| VmRecord {
        id: VmId::random(),
        name: format!("vm-{number}").parse().expect("valid"),
        ..row.clone()
    });
    served.world.host().rows.extend(rows);
    served.services.vms.recover().await.expect("taken up");
    served
}

fn names(page: &Value) -> Vec<String> {
    let vms = page["result"]["vms"].as_array().expect("a list");
    vms.iter().map(|vm| vm["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn a_list_has_500_on_a_page_unless_told_otherwise_and_misses_none() {
    let served = with_vms(503).await;
    let first = served.call("vm.list", json!({})).await;
    assert_eq!(names(&first).len(), 500);
    let next = first["result"]["next"].clone();
    let rest = served.call("vm.list", json!({"cursor": next})).await;
    assert_eq!(rest["result"].get("next"), None);
    let all: BTreeSet<_> = names(&first).into_iter().chain(names(&rest)).collect();
    assert_eq!((names(&rest).len(), all.len()), (3, 503));
}

#[tokio::test]
async fn a_list_shows_what_showing_each_does() {
    let served = Served::new();
    for (name, start) in [("vm-0", false), ("vm-1", true), ("vm-2", false)] {
        let wanted = CreateVm { start: Some(start), ..wish(name) };
        served.services.vms.create(wanted, None).await.expect("made");
    }
    let page = served.client().await.call::<rpc::VmList>(rpc::Page::default()).await;
    let page = page.expect("a page as clients read it");
    assert_eq!((page.vms.len(), page.next), (3, None));
    for vm in page.vms {
        let shown = served.call("vm.show", json!({"vm": vm.name})).await;
        assert_eq!(serde_json::to_value(&vm).expect("JSON"), shown["result"]);
        assert_eq!(vm.state == rpc::VmState::Running, vm.name.as_str() == "vm-1");
    }
}

#[tokio::test]
async fn a_cursor_outlives_the_vm_it_names() {
    let served = with_vms(5).await;
    let first = served.call("vm.list", json!({"limit": 2})).await;
    let gone = names(&first).pop().expect("two");
    served.call("vm.delete", json!({"vm": gone})).await;
    let cursor = first["result"]["next"].clone();
    let rest = served.call("vm.list", json!({"limit": 1000, "cursor": cursor})).await;
    assert_eq!(names(&rest).len(), 3);
    assert!(names(&rest).iter().all(|name| !names(&first).contains(name)));
}

#[tokio::test]
async fn impossible_pages_are_refused() {
    let served = Served::new();
    for limit in [json!(0), json!(1001), json!(-1), json!(1.5), json!("2")] {
        let answer = served.call("vm.list", json!({"limit": limit})).await;
        assert_eq!(code(&answer), Some(-32602), "{limit}: {answer}");
    }
}
