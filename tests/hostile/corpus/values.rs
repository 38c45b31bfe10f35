//! Values that no honest compiler makes: texts that are none, lists that are too long, pointers that lead
//! nowhere, and memory for the host that is none.

use super::assembled::plugin;
use super::{Ends, Hostile};

/// What the hook does, and how that ends.
const RUNS: &[(&str, &str, &str)] = &[
    (
        "path-of-bad-utf-8",
        "(call $write-file (local.get $disk) (i32.const 1088) (i32.const 4) (i32.const 0x1a4) \
         (i32.const 1024) (i32.const 1) (i32.const 64))",
        "invalid utf-8",
    ),
    (
        "log-of-bad-utf-8",
        "(call $log (i32.const 1) (i32.const 1088) (i32.const 4))",
        "invalid utf-8",
    ),
    (
        "log-of-an-unheard-of-level",
        "(call $log (i32.const 9) (i32.const 1024) (i32.const 4))",
        "discriminant",
    ),
    (
        "path-beyond-the-memory",
        "(call $write-file (local.get $disk) (i32.const 0x7ffffff0) (i32.const 4) \
         (i32.const 0x1a4) (i32.const 1024) (i32.const 1) (i32.const 64))",
        "out of bounds",
    ),
    (
        "list-of-4-gib",
        "(call $write-file (local.get $disk) (i32.const 1024) (i32.const 12) (i32.const 0x1a4) \
         (i32.const 1024) (i32.const -1) (i32.const 64))",
        "out of bounds",
    ),
    (
        "result-beyond-the-memory",
        "(call $entries (local.get $files) (i32.const 1024) (i32.const 4) (i32.const 0x7ffffff0))",
        "out of bounds",
    ),
    (
        "result-not-aligned",
        "(call $entries (local.get $files) (i32.const 1024) (i32.const 4) (i32.const 65))",
        "aligned",
    ),
    (
        "error-of-bad-utf-8",
        "(i32.store8 (i32.const 128) (i32.const 1)) (i32.store (i32.const 132) (i32.const 1088)) \
         (i32.store (i32.const 136) (i32.const 4)) (global.set $result (i32.const 128))",
        "invalid utf-8",
    ),
    ("result-of-an-unheard-of-case", "(i32.store8 (i32.const 0) (i32.const 7))", "discriminant"),
    ("result-elsewhere", "(global.set $result (i32.const -4))", "out of bounds"),
    ("result-not-where-it-may-be", "(global.set $result (i32.const 130))", "aligned"),
];

/// What the host is given when it asks for memory, for a list of handles.
const REALLOCS: &[(&str, &str, &str)] = &[
    ("memory-for-the-host-beyond", "(i32.const 0x7ffffff0)", "beyond end of memory"),
    ("memory-for-the-host-not-aligned", "(i32.const 4099)", "aligned"),
    ("memory-for-the-host-never", "(loop (br 0)) (unreachable)", "processor time"),
    ("memory-for-the-host-refused", "(unreachable)", "unreachable"),
];

/// Asks for files: what is mapped is a list of one.
const LISTED: &str =
    "(call $entries (local.get $files) (i32.const 1056) (i32.const 10) (i32.const 64))";

/// A list of 32 MiB of zeroes, handed to the host, and returned to it.
const LONG: &[(&str, &str)] = &[
    (
        "list-of-32-mib",
        "(call $write-file (local.get $disk) (i32.const 1024) (i32.const 12) (i32.const 0x1a4) \
         (i32.const 65536) (i32.const 33554432) (i32.const 64))",
    ),
    (
        "path-of-32-mib",
        "(call $write-file (local.get $disk) (i32.const 65536) (i32.const 33554432) \
         (i32.const 0x1a4) (i32.const 1024) (i32.const 1) (i32.const 64))",
    ),
    ("log-of-32-mib", "(call $log (i32.const 1) (i32.const 65536) (i32.const 33554432))"),
    (
        "error-of-32-mib",
        "(i32.store8 (i32.const 128) (i32.const 1)) (i32.store (i32.const 132) (i32.const 65536)) \
         (i32.store (i32.const 136) (i32.const 33554432)) (global.set $result (i32.const 128))",
    ),
];

pub(super) fn all() -> Vec<Hostile> {
    let mut all = Vec::new();
    for (name, run, said) in RUNS {
        all.push(Hostile::new(name, plugin(&[("run", run)]), Ends::Failed(said)));
    }
    for (name, realloc, said) in REALLOCS {
        let component = plugin(&[("realloc", realloc), ("run", LISTED)]);
        all.push(Hostile::new(name, component, Ends::Failed(said)).with("cpu = '50ms'"));
    }
    for (name, run) in LONG {
        let component = plugin(&[("pages", "600"), ("run", run)]);
        all.push(Hostile::new(name, component, Ends::Failed("fuel")));
    }
    all
}
