//! Who may import whom.
//!
//! ```text
//!   common ground ◀── services ◀── adapters ◀── rim
//!         ▲
//!         └── agent
//! ```

use crate::source::{Source, Token};

/// Types and tools that know of nothing else in the crate.
const COMMON: &[&str] = &[
    "id", "report", "wire", "config", "process", "task", "size", "egress", "block", "keys",
    "archive", "index", "line",
];
/// The services: the rules of the product, and the traits they need from the rest.
const SERVICES: &[&str] = &["vm", "workspace", "image"];
/// What does the work for the services, each by one outside technology.
const ADAPTERS: &[&str] = &["vmm", "net", "disk", "guest", "store", "hooks"];
/// What puts it together and shows it to people and programs.
const RIM: &[&str] = &["rpc", "cli", "doctor", "daemon", "bin"];
/// The guest side: in the same crate for the wire types only.
const AGENT: &[&str] = &["agent"];

/// Crates that one module is allowed to know, so that they can be replaced there.
const EXCLUSIVE: &[(&str, &str)] = &[
    ("wasmtime", "hooks"),
    ("wasmtime_wasi", "hooks"),
    ("rusqlite", "store"),
    ("jsonrpsee", "rpc"),
    ("nlink", "net"),
    ("hickory_proto", "net"),
    ("rustls", "net"),
    ("gix_index", "index"),
];

/// Whether code in top-level module `from` may name top-level module `to`.
fn may_import(from: &str, to: &str) -> bool {
    if from == to {
        return true;
    }
    let to_common = COMMON.contains(&to);
    match from {
        _ if COMMON.contains(&from) || SERVICES.contains(&from) || AGENT.contains(&from) => {
            to_common
        }
        _ if ADAPTERS.contains(&from) => to_common || SERVICES.contains(&to),
        _ => !AGENT.contains(&to),
    }
}

/// Complaints about imports against the direction of the layers.
pub(crate) fn direction(file: &Source) -> Vec<String> {
    let module = file.module();
    // `lib.rs` declares the modules; the programs in `bin/` see the crate from outside.
    let Some(&from) = module.first().filter(|&&first| first != "bin") else {
        return Vec::new();
    };
    // The host's side of the guest's connection is tested against the real other side.
    let tests = module.contains(&"tests");
    let allowed =
        |to: &str| may_import(from, to) || (tests && from == "guest" && AGENT.contains(&to));
    let named = roots(file);
    let wrong = named.iter().filter(|token| is_module(&token.text) && !allowed(&token.text));
    wrong
        .map(|token| file.at(token, format!("`{from}` must not know of `{}`", token.text)))
        .collect()
}

fn is_module(name: &str) -> bool {
    [COMMON, SERVICES, ADAPTERS, RIM, AGENT].iter().any(|layer| layer.contains(&name))
}

/// Complaints about a top-level module that no layer lists: the direction would not be checked.
pub(crate) fn placed(file: &Source) -> Vec<String> {
    match file.module().first() {
        Some(first) if !is_module(first) => {
            vec![format!("{}: name `{first}` in one layer of tests/tidy/imports.rs", file.path)]
        }
        Some(_) | None => Vec::new(),
    }
}

/// Complaints about crates outside the one module that may know them.
pub(crate) fn exclusive(file: &Source) -> Vec<String> {
    let module = file.module();
    let owner = module.first().copied().unwrap_or_default();
    let wrong = EXCLUSIVE.iter().filter(|(_, home)| *home != owner);
    wrong
        .flat_map(|(name, home)| {
            // A method of that name is no crate.
            let after_dot = |at: usize| at > 0 && file.tokens[at - 1].text == ".";
            let named = file.tokens.iter().enumerate();
            let found = named.filter(move |(at, token)| token.text == *name && !after_dot(*at));
            found.map(move |(_, token)| file.at(token, format!("only `{home}` may know `{name}`")))
        })
        .collect()
}

/// The tokens that name a top-level module: after `crate::`, in the braces of `crate::{…}`, and after
/// enough `super::` to leave the top-level module.
fn roots(file: &Source) -> Vec<Token> {
    let tokens = &file.tokens;
    let depth = file.module().len();
    let mut found = Vec::new();
    let mut position = 0;
    while position < tokens.len() {
        let start = &tokens[position];
        let mut after = position;
        let mut climbed = 0;
        while tokens.get(after).is_some_and(|t| t.text == "super") && separator(tokens, after + 1) {
            climbed += 1;
            after += 3;
        }
        let from_root = if start.text == "crate" && separator(tokens, position + 1) {
            after = position + 3;
            true
        } else {
            climbed > 0 && climbed >= depth + start.inline_modules
        };
        if from_root {
            names(tokens, after, &mut found);
        }
        position = after.max(position + 1);
    }
    found
}

fn separator(tokens: &[Token], position: usize) -> bool {
    tokens.len() > position + 1 && tokens[position].text == ":" && tokens[position + 1].text == ":"
}

/// The name at `position`, or the first names inside the braces there.
fn names(tokens: &[Token], position: usize, found: &mut Vec<Token>) {
    let Some(first) = tokens.get(position) else {
        return;
    };
    if first.text != "{" {
        found.push(first.clone());
        return;
    }
    let mut level = 0;
    let mut expects_name = true;
    for token in &tokens[position..] {
        match token.text.as_str() {
            "{" => level += 1,
            "}" if level == 1 => return,
            "}" => level -= 1,
            "," if level == 1 => expects_name = true,
            _ if level == 1 && expects_name => {
                found.push(token.clone());
                expects_name = false;
            }
            _ => {}
        }
    }
}

#[test]
fn wrong_directions_are_found() {
    let cases = [
        ("src/vm/machine.rs", "use crate::store::Database;", 1),
        ("src/vm/machine.rs", "use crate::{id::VmId, rpc, report::{Kind, Report}, vmm::Qemu};", 2),
        ("src/vm/machine.rs", "fn f() { assert!(crate::net::up()); }", 1),
        ("src/vm/machine.rs", "use super::super::hooks::Host;", 1),
        ("src/vm/mod.rs", "use super::hooks::Host;", 1),
        ("src/vm/machine.rs", "mod tests { use super::super::super::hooks::Host; }", 1),
        ("src/workspace/mod.rs", "use crate::vm::Service;", 1),
        ("src/image/mod.rs", "use crate::workspace::Plan;", 1),
        ("src/store/mod.rs", "use crate::vmm::Qemu;", 1),
        ("src/id.rs", "use crate::vm::Service;", 1),
        ("src/agent/mod.rs", "use crate::vm::plan::Step;", 1),
        ("src/cli/run.rs", "use crate::agent::boot;", 1),
        ("src/guest/dial.rs", "use crate::agent::server::Server;", 1),
    ];
    for (path, text, complaints) in cases {
        let found = direction(&Source::new(path, text));
        assert_eq!(found.len(), complaints, "{path}: {text}: {found:?}");
    }
}

#[test]
fn right_directions_are_silent() {
    let cases = [
        ("src/vm/machine.rs", "use crate::{id::VmId, vm::plan::Step}; // crate::store"),
        (
            "src/vm/machine.rs",
            "use super::plan::Step; mod tests { use super::super::plan; use super::*; }",
        ),
        ("src/guest/tests/exec.rs", "use crate::agent::server::Server;"),
        ("src/hooks/host.rs", "use crate::vm::plan::Step; const A: &str = \"crate::net::x\";"),
        ("src/rpc/server.rs", "use crate::{vm::Service, store::Database};"),
        ("src/lib.rs", "pub mod agent; pub use crate::agent::run;"),
    ];
    for (path, text) in cases {
        assert_eq!(direction(&Source::new(path, text)), [""; 0], "{path}: {text}");
    }
}

#[test]
fn a_module_without_a_layer_is_found() {
    assert_eq!(placed(&Source::new("src/extras/mod.rs", "")).len(), 1);
    assert_eq!(placed(&Source::new("src/vm/extras.rs", "")).len(), 0);
}

#[test]
fn a_heavy_crate_elsewhere_is_found() {
    let text = "use rusqlite::Connection;";
    assert_eq!(exclusive(&Source::new("src/vm/mod.rs", text)).len(), 1);
    assert_eq!(exclusive(&Source::new("src/store/mod.rs", text)).len(), 0);
    assert_eq!(exclusive(&Source::new("src/vm/mod.rs", "//! Not with rusqlite.")).len(), 0);
}
