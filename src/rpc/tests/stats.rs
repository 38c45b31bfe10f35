//! `vm.stats.subscribe` on the real server.

use super::Served;
use crate::report::Kind;
use crate::vm::tests::wish;
use crate::wire::rpc::{self, DeleteVm, StatsSubscription, WatchStats};

fn watch(vm: &str, interval_ms: Option<u64>) -> WatchStats {
    WatchStats { vm: vm.to_owned(), interval_ms }
}

#[tokio::test]
async fn stats_come_again_and_again_until_the_vm_is_gone() {
    let served = Served::new();
    let client = served.client().await;
    client.call::<rpc::VmCreate>(wish("web")).await.expect("created");
    let wanted = watch("web", Some(200));
    let mut events = client.subscribe::<StatsSubscription>(wanted).await.expect("subscribes");
    let begun = std::time::Instant::now();
    for _ in 0..3 {
        let stats = events.next().await.expect("an event").expect("understood");
        assert_eq!(stats.name.as_str(), "web");
        assert!(stats.guest.is_some());
    }
    assert!(begun.elapsed() >= std::time::Duration::from_millis(390), "at once, then twice later");
    client.call::<rpc::VmDelete>(DeleteVm::whatever("web")).await.expect("deleted");
    while let Some(event) = events.next().await {
        event.expect("understood");
    }
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() {
    let served = Served::new();
    let client = served.client().await;
    client.call::<rpc::VmCreate>(wish("web")).await.expect("created");
    for bad in [0, 199, 3_600_001, u64::MAX] {
        let wanted = watch("web", Some(bad));
        let refused = client.subscribe::<StatsSubscription>(wanted).await.expect_err("refused");
        assert_eq!(refused.kind, Kind::Invalid, "{bad}");
    }
    let unknown = watch("none", None);
    let refused = client.subscribe::<StatsSubscription>(unknown).await.expect_err("refused");
    assert_eq!(refused.kind, Kind::NotFound);
}
