//! What does not end, and what grows: loops, recursion, memories, tables, instances, floods of calls.

use super::assembled::{beside, plugin};
use super::{Ends, Hostile};

/// Loops: the place, what is there, how it ends. All have 50 ms of processor time.
const ENDLESS: &[(&str, &str, &str, &str)] = &[
    ("loop", "run", "(loop (br 0))", "processor time"),
    (
        "loop-after-a-write",
        "run",
        "(call $stage (local.get $disk)) (loop (br 0))",
        "processor time",
    ),
    (
        "loop-in-start",
        "component",
        "(core module $m (func $f (loop (br 0))) (start $f)) (core instance (instantiate $m))",
        "processor time",
    ),
    (
        "loop-after-the-return",
        "lift",
        "(post-return (core func $main \"forever\"))",
        "processor time",
    ),
    (
        "loop-of-tail-calls",
        "component",
        "(core module $m (func $f (return_call $f)) (start $f)) (core instance (instantiate $m))",
        "processor time",
    ),
    (
        "loop-of-large-fills",
        "component",
        "(core module $m (memory 900) (func $f (loop (memory.fill (i32.const 0) (i32.const 1) \
         (i32.const 58982400)) (br 0))) (start $f)) (core instance (instantiate $m))",
        "processor time",
    ),
    (
        "recursion-in-start",
        "component",
        "(core module $m (func $f (call $f)) (start $f)) (core instance (instantiate $m))",
        "512 KiB of stack",
    ),
    (
        // Every call has about 40 bytes on the stack.
        "recursion-twenty-thousand-deep",
        "component",
        "(core module $m (func $f (param i32) (if (local.get 0) (then (call $f (i32.sub \
         (local.get 0) (i32.const 1)))))) (func $s (call $f (i32.const 20000))) (start $s)) \
         (core instance (instantiate $m))",
        "512 KiB of stack",
    ),
    (
        "random-numbers-without-end",
        "component",
        "(import \"wasi:random/random@0.2.0\" (instance $random (export \"get-random-bytes\" \
         (func (param \"len\" u64) (result (list u8)))))) \
         (core func $bytes-of (canon lower (func $random \"get-random-bytes\") (memory $bytes) \
         (realloc $realloc))) \
         (core module $m (import \"\" \"get\" (func $get (param i64 i32))) \
         (func $s (call $get (i64.const 100000) (i32.const 64))) (start $s)) \
         (core instance (instantiate $m (with \"\" (instance (export \"get\" (func $bytes-of))))))",
        "exceeds limit 65536",
    ),
    (
        "trap-in-start",
        "component",
        "(core module $m (func $f unreachable) (start $f)) (core instance (instantiate $m))",
        "unreachable",
    ),
];

/// A million calls of the host.
fn flood(call: &str) -> String {
    format!(
        "(local $left i32) (local.set $left (i32.const 1000000)) (loop {call} (br_if 0 \
         (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
    )
}

pub(super) fn all() -> Vec<Hostile> {
    let mut all = Vec::new();
    for (name, place, text, said) in ENDLESS {
        let component = plugin(&[(*place, *text)]);
        all.push(Hostile::new(name, component, Ends::Failed(said)).with("cpu = '50ms'"));
    }
    for (name, call) in [
        (
            "flood-of-calls",
            "(call $entries (local.get $files) (i32.const 1024) (i32.const 0) (i32.const 64))",
        ),
        ("flood-of-log-lines", "(call $log (i32.const 1) (i32.const 1024) (i32.const 12))"),
        ("flood-of-writers", "(drop (call $writer (local.get $disk)))"),
    ] {
        let component = plugin(&[("realloc", "(i32.const 4096)"), ("run", &flood(call))]);
        let said = if name == "flood-of-writers" {
            "resource table has no free keys"
        } else {
            "100,000 calls of the host"
        };
        all.push(Hostile::new(name, component, Ends::Failed(said)));
    }
    all.extend(growth());
    all
}

/// What is too large before the hook is even called, and what only fits alone. The plugin by hand has one
/// memory of two pages and two instances of its own.
fn growth() -> Vec<Hostile> {
    let memory = |pages: usize| format!("(memory {pages})");
    let table = |elements: usize| format!("(table {elements} funcref)");
    let grow =
        "(loop (br_if 0 (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0)))) (unreachable)";
    let grow_table = "(table $t 0 funcref) (func $f (loop (br_if 0 (i32.ge_s (table.grow $t \
                      (ref.null func) (i32.const 100)) (i32.const 0)))) (unreachable)) (start $f)";
    let handles = "(type $own (resource (rep i32))) (core func $new (canon resource.new $own)) \
                   (core module $m (import \"\" \"new\" (func $new (param i32) (result i32))) \
                   (func $f (loop (drop (call $new (i32.const 1))) (br 0))) (start $f)) \
                   (core instance (instantiate $m (with \"\" (instance (export \"new\" (func $new))))))";
    let failed = [
        ("memory-bomb", plugin(&[("run", grow)]), "64 MiB of memory"),
        ("memories-too-large-together", beside(&memory(600), 2), "64 MiB of memory"),
        ("tables-too-large-together", beside(&table(10_001), 2), "table"),
        ("table-bomb", beside(grow_table, 1), "unreachable"),
        ("handle-bomb", plugin(&[("component", handles)]), "store handle limit exceeded"),
    ];
    let refused = [
        ("memory-too-large", beside(&memory(1025), 1), "exceeds the limit of 0x4000000 bytes"),
        ("memories-too-many", beside(&memory(1), 4), "5 Wasm linear memories"),
        ("table-too-large", beside(&table(20_001), 1), "exceeds the limit of 20000"),
        ("tables-too-many", beside(&table(1), 17), "17 tables"),
        ("instances-too-many", beside("", 32), "34 core module instances"),
    ];
    let failed = failed
        .into_iter()
        .map(|(name, component, said)| Hostile::new(name, component, Ends::Failed(said)));
    let refused = refused
        .into_iter()
        .map(|(name, component, said)| Hostile::new(name, component, Ends::Refused(said)));
    let large = "table-too-large-for-a-large-one";
    let said = Ends::Failed("table");
    let large = Hostile::new(large, beside(&table(100_001), 1), said).with("class = 'large'");
    failed.chain(refused).chain([large]).collect()
}
