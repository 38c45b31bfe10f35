//! Lists that tests must not fall behind: behaviour that each has a test, and stages at which a daemon is
//! killed.

use std::collections::BTreeSet;

use crate::source::Source;

/// Behaviour that has bitten tools of this kind. For each of these there is a test `item_NN_…`; numbers that
/// are not here are of what cove does not do yet, or of what is tested under the name of what it belongs to.
const LISTED: [(u32, &str); 20] = [
    (1, "data written in the guest, then stop, then start: still there"),
    (2, "stop of a guest that ignores shutdown ends within its deadline"),
    (3, "the VM outlives the client and the daemon that started it"),
    (4, "a daemon restart keeps VMs: same pid, same boot id"),
    (5, "recovery after kill -9 at every step of create, start, stop, delete"),
    (6, "a stale pid that names somebody else's process is never signalled"),
    (7, "tear-down with missing or corrupt handles still removes the rest"),
    (8, "many deletes in parallel"),
    (9, "two creates with one name: one wins"),
    (10, "concurrent creates on a cold store build the image once"),
    (12, "a local failure never masquerades as the remote status"),
    (13, "the wait for the guest is bounded and its error says what to do"),
    (21, "modes keep their type bits; every disk is clean after every test"),
    (23, "host keys: no false alarm about a VM of the same name, no silence about a real change"),
    (24, "bad names stop at the edge"),
    (25, "SQLite settings hold on every connection"),
    (26, "paths over 108 bytes for sockets"),
    (27, "a client that disconnects mid-call"),
    (28, "full disk at each write: clear error, nothing lost"),
    (30, "stop, delete and list stay fast while an import runs"),
];

/// The numbers of items that tests in a file are named after.
fn items(file: &Source) -> Vec<u32> {
    let functions = file.tokens.windows(2).filter(|tokens| tokens[0].text == "fn");
    let names = functions.filter_map(|tokens| tokens[1].text.strip_prefix("item_"));
    names.filter_map(|name| name.split_once('_')?.0.parse().ok()).collect()
}

/// Stages that make nothing: a machine that stands still goes on, and a daemon that is killed meanwhile
/// leaves it as it is, in `tests/e2e/stalled.rs`; a repository and what is in a guest are looked at before
/// anything is sent.
const MAKES_NOTHING: [&str; 3] = ["go on", "inspect", "look"];

/// The stages that a file begins, as in `operation.stage("boot")`.
fn stages(file: &Source) -> BTreeSet<String> {
    let calls = file.tokens.windows(3);
    let calls = calls.filter(|call| call[0].text == "stage" && call[1].text == "(");
    calls.filter_map(|call| literal(&call[2].text)).collect()
}

/// All texts in a file.
fn texts(file: &Source) -> BTreeSet<String> {
    file.tokens.iter().filter_map(|token| literal(&token.text)).collect()
}

fn literal(token: &str) -> Option<String> {
    Some(token.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

#[test]
fn every_listed_item_has_a_test_named_after_it() {
    let tested: Vec<u32> = crate::all().iter().flat_map(items).collect();
    let missing: Vec<_> = LISTED.iter().filter(|(number, _)| !tested.contains(number)).collect();
    assert!(missing.is_empty(), "no test `item_NN_…` for: {missing:#?}");
    let file =
        Source::new("a.rs", "fn item_07_a() {} fn item_x() {} as!(item_08_b); // fn item_9_c");
    assert_eq!(items(&file), [7]);
}

#[test]
fn a_daemon_is_killed_at_every_stage() {
    let begun: BTreeSet<_> = crate::library().iter().flat_map(stages).collect();
    assert!(begun.contains("boot") && begun.contains("stop"), "{begun:?}");
    let walked = texts(&Source::read("tests/e2e/kill_walk.rs"));
    let missing =
        begun.difference(&walked).filter(|stage| !MAKES_NOTHING.contains(&stage.as_str()));
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "tests/e2e/kill_walk.rs kills no daemon at the stages {missing:?}");
    let file =
        Source::new("a.rs", "fn stage(a: A) { b.stage(\"c\"); b.stage(d); past_stage(\"e\") }");
    assert_eq!(stages(&file).into_iter().collect::<Vec<_>>(), ["c"]);
}
