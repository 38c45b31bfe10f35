//! The rules of this code that a program can check, as tests over the source tree.
//!
//! `tidy/source.rs` reads files as tokens, so that comments and strings are never mistaken for code;
//! `tidy/code.rs` and `tidy/imports.rs` are the rules, pure functions from a file to complaints, each
//! tested on small bad inputs as well; here they meet the tree. `tidy/listed.rs` and `tidy/papers.rs` are
//! about lists, and what is not Rust.

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/listed.rs"]
mod listed;
#[path = "tidy/papers.rs"]
mod papers;
#[path = "tidy/source.rs"]
mod source;

use source::Source;

/// Runs a rule over files and shows all complaints at once.
fn check(files: &[Source], rule: impl Fn(&Source) -> Vec<String>) {
    assert!(!files.is_empty(), "the rule looked at nothing");
    let complaints: Vec<_> = files.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// All Rust files of the package and of the plugins.
fn all() -> Vec<Source> {
    source::below(&["src", "plugins", "tests"])
}

/// The library and the programs.
fn library() -> Vec<Source> {
    source::below(&["src"])
}

#[test]
fn imports_run_one_way() {
    check(&library(), imports::direction);
}

#[test]
fn every_module_has_a_place_in_the_layers() {
    check(&library(), imports::placed);
}

#[test]
fn heavy_crates_stay_in_their_module() {
    check(&library(), imports::exclusive);
}

#[test]
fn every_file_opens_with_its_purpose() {
    check(&all(), code::purpose);
}

#[test]
fn no_module_is_a_drawer_for_everything() {
    check(&all(), code::named_modules);
}

#[test]
fn files_stay_small() {
    check(&library(), code::length);
}

#[test]
fn exceptions_to_the_length_are_still_needed() {
    for (path, reason) in code::LONG_FILES {
        let file = Source::read(path);
        assert!(reason.len() > 20, "{path}: say why");
        assert!(
            code::lines(&file) > code::MAX_LINES,
            "{path} is short enough: take it off the list"
        );
    }
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    check(&all(), code::no_allow);
}

#[test]
fn nothing_is_left_for_later() {
    check(&all(), code::nothing_left);
}

#[test]
fn traits_are_small() {
    check(&library(), code::small_traits);
}

#[test]
fn only_the_configuration_reads_the_environment() {
    check(&library(), code::environment);
}

#[test]
fn clippy_measures_functions() {
    let clippy = papers::read("clippy.toml");
    assert!(clippy.contains("too-many-lines-threshold = 60"), "functions stay under 60 lines");
    assert!(papers::read("Cargo.toml").contains("too_many_lines = \"warn\""));
}
