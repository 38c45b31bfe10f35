//! `net.*` on the real server.

use serde_json::json;

use super::{Served, code};
use crate::vm::tests::wish;

#[tokio::test]
async fn a_vms_policy_is_shown_changed_and_explained() {
    let served = Served::new();
    served.services.vms.create(wish("web"), None).await.expect("created");
    let shown = served.call("net.show", json!({"vm": "web"})).await;
    let expected =
        json!({"name": "web", "mode": "user", "address": "10.0.2.15", "egress": {"mode": "open"}});
    assert_eq!(shown["result"], expected);
    let rule = json!({"vm": "web", "rule": "*.Example.org:443"});
    let shown = served.call("net.allow", rule.clone()).await;
    let egress = json!({"mode": "open", "rules": ["*.example.org:443"]});
    assert_eq!(shown["result"]["egress"], egress);
    assert!(
        shown["result"]["warnings"][0]
            .as_str()
            .is_some_and(|text| text.contains("changes nothing"))
    );
    let asked = json!({"vm": "web", "host": "10.1.2.3", "port": 80});
    let explained = served.call("net.explain", asked).await;
    assert_eq!(explained["result"]["allowed"], json!(false), "{explained}");
    let denied = served.call("net.denials", json!({"vm": "web"})).await;
    assert_eq!(denied["result"]["denials"][0]["what"]["name"], json!("evil.test"));
    let shown = served.call("net.deny", rule.clone()).await;
    assert_eq!(shown["result"]["egress"], json!({"mode": "open"}));
    let again = served.call("net.deny", rule).await;
    assert_eq!(again["error"]["data"]["kind"], json!("conflict"), "{again}");
}

#[tokio::test]
async fn what_is_no_rule_is_refused_with_how_rules_are_written_and_makes_nothing() {
    let served = Served::new();
    for (method, wanted) in [
        ("net.allow", json!({"vm": "web", "rule": "a.*.org"})),
        ("vm.create", json!({"name": "web", "allow": ["a.*.org"]})),
    ] {
        let answer = served.call(method, wanted).await;
        assert_eq!(code(&answer), Some(-32602), "{answer}");
        let said = answer.to_string();
        for part in ["`a.*.org` is no rule", "`*` stands only", "`*.example.org:443`"] {
            assert!(said.contains(part), "{said}");
        }
    }
    assert!(served.world.host().rows.is_empty());
}
