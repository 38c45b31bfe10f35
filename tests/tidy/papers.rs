//! Rules about everything that is not Rust: scripts, README, CHANGELOG, Cargo.toml.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::source::{Source, root, walk};

/// A file of the package as text.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The version in Cargo.toml.
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Whether a changelog has a heading for a version.
fn has_version(changelog: &str, version: &str) -> bool {
    changelog.lines().any(|line| {
        let heading = line.strip_prefix("## ").unwrap_or_default();
        heading.split_whitespace().next() == Some(version)
    })
}

/// Names among `modules` that the code map of a README does not have as `` `src/NAME` `` or
/// `` `src/NAME/` ``.
fn unmapped<'m>(readme: &str, modules: &'m [String]) -> Vec<&'m String> {
    let missing = modules.iter().filter(|name| {
        !readme.contains(&format!("`src/{name}`")) && !readme.contains(&format!("`src/{name}/`"))
    });
    missing.collect()
}

/// Paths below `src/` in a README's code map that do not exist.
fn mapped_in_vain(readme: &str, modules: &[String]) -> Vec<String> {
    let named = readme.split("`src/").skip(1);
    let named = named.filter_map(|rest| rest.split('`').next());
    let first = named.map(|path| path.split('/').next().unwrap_or_default().to_owned());
    first.filter(|name| !name.is_empty() && !modules.contains(name)).collect()
}

/// Dependency lines of a Cargo.toml that do not say why.
fn unexplained(manifest: &str) -> Vec<&str> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]"
            && line.contains('=')
            && !line.starts_with('#')
            && !line.contains(" # ")
        {
            found.push(line);
        }
    }
    found
}

/// The numbered list of a text, each item as one line; the number is the place.
fn numbered(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let number = format!("{}. ", items.len() + 1);
        if let Some(item) = line.strip_prefix(&number) {
            items.push(item.to_owned());
            open = true;
        } else if let (true, Some(last), Some(rest)) =
            (open, items.last_mut(), line.strip_prefix("   "))
        {
            *last = format!("{last} {}", rest.trim());
        } else {
            open = false;
        }
    }
    items
}

/// The documentation at the top of a Rust file as plain text.
fn opening(file: &str) -> String {
    let lines = file.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n").collect()
}

/// The names of the public fields in a Rust file.
fn public_fields(file: &Source) -> Vec<&str> {
    let fields = file
        .tokens
        .windows(4)
        .filter(|tokens| tokens[0].text == "pub" && tokens[2].text == ":" && tokens[3].text != ":");
    fields.map(|tokens| tokens[1].text.as_str()).collect()
}

/// The shell that a script names in its first line.
fn shell(script: &str) -> Option<&'static str> {
    match script.lines().next()? {
        "#!/usr/bin/env bash" | "#!/bin/bash" => Some("bash"),
        "#!/bin/sh" => Some("sh"),
        _ => None,
    }
}

#[test]
fn the_changelog_knows_the_version() {
    assert!(has_version(&read("CHANGELOG.md"), version()), "no heading for {}", version());
    assert!(has_version("# Changes\n\n## 1.2.3 (soon)\n", "1.2.3"));
    assert!(!has_version("## 1.2.30\n", "1.2.3"));
}

#[test]
fn the_code_map_is_the_code() {
    let entries = std::fs::read_dir(root().join("src")).expect("src");
    let names = entries.map(|entry| entry.expect("readable").file_name());
    let modules: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    let readme = read("README.md");
    assert_eq!(unmapped(&readme, &modules), Vec::<&String>::new(), "not in README's code map");
    assert_eq!(mapped_in_vain(&readme, &modules), [""; 0], "in README's code map, but not in src");
}

#[test]
fn gaps_of_a_code_map_are_found() {
    let modules = ["vm".to_owned(), "id.rs".to_owned()];
    assert_eq!(unmapped("| `src/id.rs` | ids |", &modules), [&modules[0]]);
    assert_eq!(mapped_in_vain("`src/vm/plan.rs` `src/id.rs` `src/gone/`", &modules), ["gone"]);
}

#[test]
fn the_crate_maps_its_modules() {
    let library = read("src/lib.rs");
    let map = opening(&library);
    let modules =
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let missing: Vec<_> =
        modules.filter(|name| !map.contains(&format!("- [`{name}`]: "))).collect();
    assert_eq!(missing, [""; 0], "not in the map of src/lib.rs");
}

#[test]
fn the_invariants_are_written_down_twice_alike() {
    let readme = read("README.md");
    let (_, readme) = readme.split_once("## Invariants").expect("a section of its own");
    let invariants = numbered(&opening(&read("src/lib.rs")));
    assert!(invariants.len() >= 10, "{invariants:#?}");
    assert_eq!(invariants, numbered(readme), "src/lib.rs and README.md");
    assert_eq!(numbered("a\n1. b\n   c\n\n   d\n2. e\n"), ["b c", "e"]);
}

#[test]
fn the_readme_lists_every_configuration_key() {
    let readme = read("README.md");
    let (_, section) = readme.split_once("## Configuration").expect("a section of its own");
    let files = ["src/config/mod.rs", "src/config/file_sync.rs"].map(Source::read);
    let keys: Vec<_> = files.iter().flat_map(public_fields).collect();
    assert!(keys.contains(&"memory") && keys.contains(&"guest"), "{keys:?}");
    // A key is assigned, or names a table.
    let listed = |key: &str| {
        section.lines().any(|line| {
            line.starts_with(&format!("{key} = "))
                || line.trim_start_matches('[').starts_with(&format!("{key}]"))
                || line.starts_with(&format!("[hooks.{key}."))
        })
    };
    let missing: Vec<_> = keys.into_iter().filter(|key| !listed(key)).collect();
    assert_eq!(missing, [""; 0], "not in README's list of keys");
    assert_eq!(public_fields(&Source::new("a.rs", "struct A { pub b: u8, c: crate::C }")), ["b"]);
}

#[test]
fn the_vsock_program_that_is_installed_is_the_one_that_is_run() {
    let script = read("scripts/lib/programs.sh");
    let value = |key: &str| {
        let value = script.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {key}"))
    };
    let (version, patch) = (value("VSOCK_DEVICE_VERSION"), value("VSOCK_DEVICE_PATCH"));
    let folder = format!("vhost-device-vsock-{version}-patch{patch}/");
    assert!(root().join(format!("scripts/patches/vhost-device-vsock-{version}.patch")).is_file());
    assert!(read("src/daemon/mod.rs").contains(&folder), "src/daemon/mod.rs: {folder}");
}

#[test]
fn every_dependency_says_why() {
    assert_eq!(unexplained(&read("Cargo.toml")), [""; 0]);
    let bad = "[dependencies]\na = \"1\"\nb = \"1\" # why\n[features]\nc = []\n";
    assert_eq!(unexplained(bad), ["a = \"1\""]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test of scripts runs their shell")]
fn scripts_are_well_formed() {
    let mut paths = Vec::new();
    walk(Path::new("scripts"), &mut paths);
    walk(Path::new(".ci"), &mut paths);
    assert!(paths.len() >= 4, "{paths:?}");
    let other = |path: &String| [".patch", ".service"].iter().any(|end| path.ends_with(end));
    for path in paths.into_iter().filter(|path| !other(path)) {
        let text = read(&path);
        let library = path.starts_with("scripts/lib/");
        // Sourced files have no first line of their own; they are bash.
        let shell = if library { Some("bash") } else { shell(&text) };
        let shell = shell.unwrap_or_else(|| panic!("{path}: name the shell in the first line"));
        let checked = Command::new(shell).arg("-n").arg(root().join(&path)).output();
        let checked = checked.unwrap_or_else(|error| panic!("{shell}: {error}"));
        assert!(checked.status.success(), "{path}: {}", String::from_utf8_lossy(&checked.stderr));
        let mode = std::fs::metadata(root().join(&path)).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o111 != 0, !library, "{path}: scripts are executable, parts are not");
        let strict =
            ["set -eu", "set -Eeu", "lib/common.sh"].iter().any(|line| text.contains(line));
        assert!(library || strict, "{path}: stop at the first failure");
    }
}

#[test]
fn the_shell_of_a_script_is_known() {
    assert_eq!(shell("#!/usr/bin/env bash\n"), Some("bash"));
    assert_eq!(shell("#!/bin/sh\nset -eu\n"), Some("sh"));
    assert_eq!(shell("echo no\n"), None);
}
