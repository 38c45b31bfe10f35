//! Plugins that mean harm, and the host that runs them.
//!
//! `corpus/` has the plugins, by source; the other files try them. Each ends in an error that has a type
//! and names the plugin, within its budget; nothing is written, and nothing is left. Run them with
//! `cargo nextest`, which gives every test a process of its own: some look at what their process has left.
//!
//! # Every limit has a test that fails without it
//!
//! The limits are those of `src/hooks/limits.rs`. On 2026-11-25 each was made larger, alone, by the factor
//! in the table, and its test was run: it failed, as the table says. `table` is the test in `table.rs` with
//! the plugin of that name in the corpus.
//!
//! | limit | factor | test | what came instead |
//! |---|---|---|---|
//! | `component_bytes` | 4 | `compiling::a_component_that_is_too_large…` | it was given to the compiler |
//! | `compile_cpu` | 4 | `compiling::a_bomb_of_time…` | the compiler ran for two minutes |
//! | `compile_wall` | 4 | `compiling::a_compiler_that_hangs…` | the deadline of the test itself |
//! | `compile_address_space` | 4 | `compiling::a_bomb_of_memory…` | the compiler's processor time ended it |
//! | `compiled_bytes` | 4 | `compiling::a_bomb_of_code…` | it compiled, and ran |
//! | `memory` | 4 | table: `memory-too-large`, `memories-too-large-together`, `allocate` | they had up to 256 MiB |
//! | `table_elements` | 4 | table: `table-too-large`, `tables-too-large-together` | they ran |
//! | `cpu` | 4 | table: `loop` | it had 4000 ms |
//! | `MANIFEST_BYTES` | 4 | `compiling::manifests_and_folders…` | it was read |
//! | `PLUGINS` | 4 | `compiling::manifests_and_folders…` | all 65 were looked at |
//! | `CONCURRENT`, `CONCURRENT_IN_GUESTS` | 4 | `text::the_engine_reserves…` | 15 GiB of address space |
//! | `MEMORIES`, `TABLES`, `INSTANCES` | 4 | table: `memories-too-many`, `tables-…`, `instances-…` | they ran |
//! | `STACK` | 3 | table: `recursion-twenty-thousand-deep` | it returned |
//! | `FIBER_STACK` | 1000 | `text::the_engine_reserves…` | 37 GiB of address space |
//! | `HANDLES` | 100000 | table: `handle-bomb` | its processor time ended it |
//! | `RESOURCES` | 4 | table: `flood-of-writers` | the limit of handles ended it |
//! | `EPOCH` | 1000000 | `points::a_hook_that_fails…` | it did not end |
//! | `wall`, when nothing is said | 4 | `points::a_hook_that_sleeps…` | 40 s |
//! | `wall`, at most | 4 | `points::a_hook_that_sleeps…` | 20 s instead of 5 s, cut by the phase's 10 s |
//! | `phase` | 4 | `points::many_slow_plugins…` | the third slept, too |
//! | `WALL_GRACE` | 60 | `files::a_run_that_hangs…` | it hung |
//! | `HOST_CALLS` | 1000 | table: `flood-of-calls` | its processor time ended it |
//! | `HOST_CALL_BYTES` | 100 | table: `list-of-32-mib` | the list was taken out of it |
//! | `PIECE_BYTES` | 2 | table: `large-piece` | it was planned |
//! | `RANDOM_BYTES` | 4 | table: `random-numbers-without-end` | it got them |
//! | `STAGED_STEPS` | 4 | table: `many-files` | 8192 steps |
//! | `STAGED_BYTES` | 4 | table: `many-bytes` | 64 MiB |
//! | `IMPORTED_BYTES` | 4 | `files::host_files_are_bounded…` | it was planned |
//! | `PATH_BYTES`, `NAME_BYTES`, `PATH_DEPTH` | 4 | table: `write` | another refusal; planned; planned |
//! | `MARKER_BYTES` | 4 | table: `marker` | it was planned |
//! | `WISHES`, `WISH_BYTES` | 4 | `points::misbehaviour…` | 512 wishes; it was asked for |
//! | `STATE_KEYS`, `STATE_KEY_BYTES`, `STATE_BYTES` | 4 | `points::misbehaviour…` | 256 keys; kept; kept |
//! | `GUEST_PROGRAMS`, `GUEST_ARGUMENT_BYTES` | 4 | `points::misbehaviour…` | 128 programs; it was run |
//! | `ANSWERS` | 4 | `points::answers_are_cut…` | 64 lines |
//! | `JOURNAL_ENTRIES` | 4 | `text::floods_of_text…` | 1000 refusals |
//! | `LISTED_ENTRIES`, `WALK_DEPTH` | 4 | `files::host_files_are_bounded…` | all were listed |
//! | `READ_BYTES` | 4 | `files::files_are_read…` | 16 MiB |
//! | `LOG_BYTES`, `LOG_LINE_BYTES` | 4 | `text::floods_of_text…` | 128 KiB; 8 KiB |
//! | `STDERR_BYTES`, `MESSAGE_BYTES` | 4 | `text::floods_of_text…` | 31 KiB; 8 KiB |
//!
//! These came later. On the same day they were made larger all at once (four times; `START` sixty times), and
//! each of these tests failed:
//!
//! | limit | test |
//! |---|---|
//! | of `large`: `component_bytes` | `compiling::a_component_that_is_too_large…` |
//! | of `large`: `table_elements`, `cpu` | table: `table-too-large-for-a-large-one`, `loop` |
//! | `SIGNATURE_BYTES` | `installing::a_signature_that_is_too_large…` |
//! | `PLUGINS`, installed | `installing::no_more_plugins…` |
//! | `START`, of an installation | `installing::a_plugin_that_does_not_come…` |
//! | `OPEN_FILES` | `files::files_are_read…` |
//! | `PATH_BYTES`, of what a refusal keeps | `text::long_names_that_are_refused…`: 256 MiB were kept |
//! | of both: `compile_cpu` | `src/hooks/compiler.rs`: `the_compiler_has_little` |
//! | `MAX_FILES`, of the cache | `src/hooks/cache.rs`: `the_oldest_files_go…` |
//!
//! `the_compiler_has_little` looks at `compile_address_space` of both, too, but the run ended at the processor time
//! before it came to that; alone, only that of `small` was tried, in the table above.
//!
//! `compile_wall`, `compiled_bytes` and `memory` of `large` have no test of their own beside `allocate` of the
//! table: what they end would take minutes or hundreds of MiB. `GUEST_OUTPUT_BYTES` is kept by whoever runs
//! programs in a guest, not by the hook host.

mod compiling;
mod corpus;
mod files;
mod installing;
mod left;
mod mutations;
mod points;
mod table;
mod text;
mod world;
