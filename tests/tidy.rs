//! The rules of this code that a program can check, as tests over the source tree.
//!
//! `tidy/source.rs` reads files as tokens, so that comments and strings are never mistaken for code;
//! `tidy/code.rs` and `tidy/imports.rs` are the rules, pure functions from a file to complaints, each
//! tested on small bad inputs as well; here they meet the tree. `tidy/listed.rs` and `tidy/papers.rs` are
//! about lists, and what is not Rust.

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/contract.rs"]
mod contract;
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

#[test]
fn the_contract_still_fits_what_was_built_against_it() {
    assert_eq!(contract::broken(&contract::frozen(), &contract::today()), [""; 0]);
}

#[test]
fn a_break_of_the_contract_is_found() {
    let frozen = contract::frozen();
    let log = "    log: func(level: level, message: string);";
    assert!(frozen.contains(log), "the test knows this function");
    for (change, sound) in [
        (frozen.replace(log, "    log: func(level: level, message: list<u8>);"), false),
        (frozen.replace(log, "    log: func(level: level, message: string, more: bool);"), false),
        (frozen.replace("    log: func(level", "    logged: func(level"), false),
        (frozen.replace("retryable: bool,", "retryable: bool,\n        extra: u32,"), false),
        (frozen.replace("doctor-plugin", "doctor-plug"), false),
        (
            frozen.replace(log, &format!("{log}\n    @since(version = 0.2.0)\n    flush: func();")),
            true,
        ),
    ] {
        let broken = contract::broken(&frozen, &change);
        assert_eq!(broken.is_empty(), sound, "{broken:?}");
    }
}

#[test]
fn every_item_of_the_contract_says_since_when_it_is_there() {
    assert_eq!(contract::without_since(&contract::today()), [""; 0]);
    let today = contract::today();
    let bare = today.replacen("@since(version = 0.2.0)", "", 3);
    assert!(!contract::without_since(&bare).is_empty(), "the rule sees what is missing");
}
