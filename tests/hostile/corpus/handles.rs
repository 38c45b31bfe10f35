//! Handles that nobody gave, that are gone, or that are something else.

use super::assembled::plugin;
use super::{Ends, Hostile};

/// What the hook does, and how that ends.
const RUNS: &[(&str, &str, &str)] = &[
    ("handle-forged", "(call $stage (i32.const 77))", "unknown handle index 77"),
    ("handle-zero", "(call $stage (i32.const 0))", "unknown handle index 0"),
    ("handle-huge", "(call $stage (i32.const -1))", "unknown handle index 4294967295"),
    ("handle-of-another-type", "(call $stage (local.get $machine))", "used with the wrong type"),
    (
        "handle-after-its-drop",
        "(call $drop-disk (local.get $disk)) (call $stage (local.get $disk))",
        "unknown handle index",
    ),
    (
        "handle-dropped-twice",
        "(call $drop-disk (local.get $disk)) (call $drop-disk (local.get $disk))",
        "unknown handle index",
    ),
    (
        "handle-dropped-as-another-type",
        "(call $drop-machine (local.get $disk))",
        "used with the wrong type",
    ),
    ("handle-kept-after-the-call", "(return (i32.const 0))", "borrow handles still remain"),
    (
        "borrow-given-away",
        "(call $finish (local.get $disk) (i32.const 64))",
        "used with the wrong type",
    ),
    (
        "writer-dropped-twice",
        "(local $writer i32) (local.set $writer (call $writer (local.get $disk))) \
         (call $drop-writer (local.get $writer)) (call $drop-writer (local.get $writer))",
        "unknown handle index",
    ),
    (
        "writer-finished-twice",
        "(local $writer i32) (local.set $writer (call $writer (local.get $disk))) \
         (call $finish (local.get $writer) (i32.const 64)) \
         (call $finish (local.get $writer) (i32.const 64))",
        "unknown handle index",
    ),
    (
        "writer-after-its-end",
        "(local $writer i32) (local.set $writer (call $writer (local.get $disk))) \
         (call $finish (local.get $writer) (i32.const 64)) \
         (call $write (local.get $writer) (i32.const 1024) (i32.const 1) (i32.const 64))",
        "unknown handle index",
    ),
    (
        "writer-as-a-disk",
        "(call $stage (call $writer (local.get $disk)))",
        "used with the wrong type",
    ),
    (
        "file-dropped-twice",
        "(local $file i32) (call $entries (local.get $files) (i32.const 1056) (i32.const 10) \
         (i32.const 64)) (local.set $file (i32.load (i32.load (i32.const 68)))) \
         (call $drop-file (local.get $file)) (call $drop-file (local.get $file))",
        "unknown handle index",
    ),
    (
        "file-as-a-folder-of-files",
        "(call $import-file (local.get $disk) (i32.const 1024) (i32.const 12) (i32.const 0x1a4) \
         (local.get $files) (i32.const 64))",
        "used with the wrong type",
    ),
];

pub(super) fn all() -> Vec<Hostile> {
    let run = |&(name, run, said): &(&'static str, &str, &'static str)| {
        Hostile::new(name, plugin(&[("run", run)]), Ends::Failed(said))
    };
    let mut all: Vec<_> = RUNS.iter().map(run).collect();
    // Each call begins with a new memory, so that what an earlier one wrote down is gone: it is called
    // twice, and would end with another trap if the number were there.
    let kept = "(if (i32.load (i32.const 2048)) (then (call $stage (i32.load (i32.const 2048))) \
                (unreachable))) (i32.store (i32.const 2048) (local.get $disk))";
    all.push(Hostile::new("handle-of-an-earlier-call", plugin(&[("run", kept)]), Ends::Harmless));
    all
}
