//! The document that describes the methods, against the methods.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Served;
use crate::rpc::methods;
use crate::rpc::streams::Tickets;
use crate::vm::tests::wish;
use crate::wire::rpc;

async fn document(served: &Served) -> Value {
    served.call("rpc.discover", json!({})).await["result"].take()
}

fn name(method: &Value) -> &str {
    method["name"].as_str().expect("a name")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

#[tokio::test]
async fn everything_that_is_answered_is_described_and_the_other_way_round() {
    let served = Served::new();
    let document = document(&served).await;
    let described: BTreeSet<_> = list(&document["methods"]).iter().map(name).collect();
    assert_eq!(described.len(), list(&document["methods"]).len(), "each once");
    let module = methods::module(served.services.clone(), Tickets::default().into());
    assert_eq!(described, module.method_names().collect());
    let known: BTreeSet<_> = rpc::METHODS.iter().copied().collect();
    let subscriptions = described.difference(&known).copied();
    assert!(subscriptions.into_iter().all(|name| name.ends_with("subscribe")));
    assert!(known.is_subset(&described));
    for method in list(&document["methods"]) {
        assert!(!method["summary"].as_str().expect("a summary").is_empty(), "{method}");
    }
}

/// What is wrong with a value, by a schema: types, required properties, alternatives, references.
fn complaints(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#'));
        let target = target.unwrap_or_else(|| panic!("`{reference}` leads nowhere"));
        return complaints(document, target, value, at);
    }
    let mut wrong = Vec::new();
    let types = match &schema["type"] {
        Value::Null => Vec::new(),
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    if !types.is_empty() && !types.iter().any(|kind| is(value, kind)) {
        wrong.push(format!("{at}: {value} is not {types:?}"));
    }
    if schema.get("const").is_some_and(|wanted| wanted != value) {
        wrong.push(format!("{at}: {value} is not {}", schema["const"]));
    }
    for key in ["anyOf", "oneOf"] {
        let Some(choices) = schema[key].as_array() else { continue };
        if !choices.iter().any(|one| complaints(document, one, value, at).is_empty()) {
            wrong.push(format!("{at}: {value} is none of {choices:?}"));
        }
    }
    let empty = Map::new();
    let object = value.as_object().unwrap_or(&empty);
    for required in
        schema["required"].as_array().filter(|_| value.is_object()).into_iter().flatten()
    {
        if !object.contains_key(required.as_str().expect("a name")) {
            wrong.push(format!("{at}: {required} is missing in {value}"));
        }
    }
    for (key, value) in object {
        let schema = &schema["properties"][key];
        wrong.extend(complaints(document, schema, value, &format!("{at}.{key}")));
    }
    for value in value.as_array().into_iter().flatten() {
        wrong.extend(complaints(document, &schema["items"], value, &format!("{at}[]")));
    }
    wrong
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("an unknown type: {other}"),
    }
}

/// Parameters for a method, of those that it requires.
fn parameters(method: &Value, operation: &str) -> Value {
    let required = list(&method["params"]).iter().filter(|one| one["required"] == true);
    let value = |one: &Value| match name(one) {
        "vm" => json!("web"),
        "operation" => json!(operation),
        "subscription" => json!(0),
        "plugin" => json!("notes"),
        "path" => json!("/plugin"),
        "port" => json!(80),
        "direction" => json!("out"),
        "id" => json!("000001"),
        "rule" => json!("example.org"),
        "host" => json!("1.1.1.1"),
        other => panic!("`{}` requires `{other}`: say here what to send", name(method)),
    };
    if method["paramStructure"] == "by-position" {
        return required.map(value).collect();
    }
    let named: Map<_, _> = required.map(|one| (name(one).to_owned(), value(one))).collect();
    named.into()
}

#[tokio::test]
async fn every_method_of_the_document_answers_as_it_says() {
    let mut answered = 0;
    for method in list(&document(&Served::new()).await["methods"]) {
        // A server of its own for each: some delete the VM, one ends the daemon.
        let served = Served::new();
        let document = document(&served).await;
        let mut raw = served.raw().await;
        let create = served.client().await.call::<rpc::VmCreate>(wish("web")).await;
        let operation = create.expect("created").id;
        // A method that starts it finds it at rest.
        if name(method) == "vm.start" {
            served.call("vm.stop", json!({"vm": "web"})).await;
        }
        // A rule that is taken back is there.
        if name(method) == "net.deny" {
            served.call("net.allow", json!({"vm": "web", "rule": "example.org"})).await;
        }
        // A detached command is there.
        if name(method) == "vm.exec.attach" {
            served.call("vm.exec.detach", json!({"vm": "web"})).await;
        }
        let params = parameters(method, operation.as_str());
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": name(method), "params": params});
        let answer = raw.ask(request.to_string()).await;
        let result = answer.get("result").unwrap_or_else(|| panic!("{request}: {answer}"));
        let schema = &method["result"]["schema"];
        let wrong = complaints(&document, schema, result, name(method));
        assert!(wrong.is_empty(), "{wrong:#?}");
        if let Some(subscription) =
            method.get("x-subscription").filter(|_| name(method) != "events.subscribe")
        {
            let event = raw.next().await;
            assert_eq!(event["method"], subscription["event"]);
            let told = &event["params"]["result"];
            let wrong = complaints(&document, &subscription["schema"], told, name(method));
            assert!(wrong.is_empty() && told.is_object(), "{event}: {wrong:#?}");
        }
        answered += 1;
    }
    assert!(answered > rpc::METHODS.len());
}

#[tokio::test]
async fn the_schemas_catch_what_is_wrong() {
    let document = document(&Served::new()).await;
    let show = list(&document["methods"]).iter().find(|method| name(method) == "vm.show");
    let schema = &show.expect("there")["result"]["schema"];
    let wrong = complaints(&document, schema, &json!({"id": 7, "state": "asleep"}), "vm");
    assert!(wrong.iter().any(|one| one.contains("vm.id")), "{wrong:#?}");
    assert!(wrong.iter().any(|one| one.contains("vm.state")), "{wrong:#?}");
    assert!(wrong.iter().any(|one| one.contains("created_at")), "{wrong:#?}");
}
