//! Components of another language, another world, another time, and files that are no components.

use super::assembled::{beside, component, plugin};
use super::{Ends, Hostile};

/// What the language has and this engine has not, as fields of a core module.
const LANGUAGE: &[(&str, &str, &str)] = &[
    ("memory64", "(memory i64 1)", "memory64"),
    ("table64", "(table i64 1 funcref)", "memory64"),
    ("threads", "(memory 1 1 shared)", "threads"),
    ("several-memories-in-a-module", "(memory 1) (memory 1)", "multi"),
    ("garbage-collection", "(type (struct (field i32)))", "gc"),
    ("exceptions", "(tag)", "exceptions"),
    (
        "relaxed-simd",
        "(func (param v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))",
        "relaxed SIMD",
    ),
];

/// Imports that nobody offers.
const IMPORTS: &[(&str, &str, &str)] = &[
    ("import-of-wasi-p3", "wasi:clocks/types@0.3.0", "imports `wasi:clocks/types@0.3.0`"),
    (
        "import-of-http",
        "wasi:http/outgoing-handler@0.2.0",
        "imports `wasi:http/outgoing-handler@0.2.0`",
    ),
    ("import-of-a-newer-api", "cove:hooks/work-disk@0.9.0", "imports `cove:hooks/work-disk@0.9.0`"),
    (
        "import-of-an-older-api",
        "cove:hooks/work-disk@0.1.0",
        "imports `cove:hooks/work-disk@0.1.0`",
    ),
    ("import-of-the-unknown", "evil:thing/all", "imports `evil:thing/all`"),
    (
        "import-of-an-unknown-interface",
        "cove:hooks/shell@0.2.0",
        "imports `cove:hooks/shell@0.2.0`",
    ),
];

pub(super) fn all() -> Vec<Hostile> {
    let mut all = Vec::new();
    for (name, fields, said) in LANGUAGE {
        all.push(Hostile::new(name, beside(fields, 1), Ends::Refused(said)));
    }
    for (name, import, said) in IMPORTS {
        let text = format!("(import \"{import}\" (instance))");
        all.push(Hostile::new(name, plugin(&[("component", &text)]), Ends::Refused(said)));
    }
    // The contract has no hard links, and no function to make a handle with.
    for (name, function) in [
        (
            "hard-link",
            "(export \"[method]work-disk.hard-link\" (func (param \"self\" (borrow $d)) (param \"from\" string)))",
        ),
        ("handle-constructed", "(export \"[constructor]work-disk\" (func (result (own $d))))"),
    ] {
        let text = format!(
            "(component (import \"cove:hooks/work-disk@0.2.0\" (instance (export \"work-disk\" \
             (type $d (sub resource))) {function})) (instance $i) \
             (export \"cove:hooks/prepare-work-disk@0.2.0\" (instance $i)))"
        );
        all.push(Hostile::new(name, component(&text), Ends::Refused("does not fit the contract")));
    }
    let newer =
        "(component (instance $i) (export \"cove:hooks/prepare-work-disk@0.9.0\" (instance $i)))";
    all.push(Hostile::new(
        "export-of-a-newer-api",
        component(newer),
        Ends::Refused("does not export `cove:hooks/prepare-work-disk@0.2.0`"),
    ));
    let asynchronous = plugin(&[("lift", "async")]);
    all.push(Hostile::new("asynchronous", asynchronous, Ends::Refused("async")));
    all.extend(no_components());
    all
}

/// Files that are something else.
fn no_components() -> Vec<Hostile> {
    let good = plugin(&[]);
    let mut layer = good.clone();
    layer[6] = 9;
    [
        ("empty", Vec::new(), "it is empty"),
        ("script", b"#!/bin/sh\nrm -rf ~\n".to_vec(), "it is text"),
        ("text-of-a-component", b"(component)".to_vec(), "it is text"),
        ("core-module", component("(module)"), "it is a core module"),
        ("another-layer", layer, "WebAssembly of another version"),
        ("noise", vec![0xfe; 4096], "data of an unknown format"),
        ("truncated", good[..good.len() / 2].to_vec(), "cannot be compiled"),
        ("nothing-in-it", component("(component)"), "does not export"),
    ]
    .into_iter()
    .map(|(name, bytes, said)| Hostile::new(name, bytes, Ends::Refused(said)))
    .collect()
}
