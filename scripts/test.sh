#!/usr/bin/env bash
# Everything that must be true before a change is merged. Calls setup.sh first.
#
#   scripts/test.sh [NEXTEST ARGUMENTS]       for example: scripts/test.sh -E 'test(tidy)'
#
# All stages run even when one fails; the status is 1 then. Tests that need root (to become another user,
# for network namespaces and mounts) or a tool that is not there print `SKIPPED: reason` and are counted
# in the summary.
#
# COVE_ADVISORIES=1 also asks the database of security advisories, which is at github.com; without it,
# nothing but the registries of packages (Debian's, crates.io) is asked for anything.

# shellcheck source=lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=lib/programs.sh
source "$ROOT/scripts/lib/programs.sh"
# shellcheck source=lib/host.sh
source "$ROOT/scripts/lib/host.sh"

CARGO_DENY_VERSION=0.20.2
NEXTEST_VERSION=0.9.143

cd "$ROOT"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
SUMMARY=() FAILED=0 SKIPPED=0

# stage NAME COMMAND…: runs it, remembers how long it took and how it ended.
stage() {
    local name=$1 started=$SECONDS outcome=passed
    shift
    step "$name"
    # In a child with `set -e` of its own: inside an `if`, it would be off.
    set +e
    (trap - ERR; set -Ee; "$@")
    local status=$?
    set -e
    if [ $status -ne 0 ]; then
        outcome=FAILED
        FAILED=$((FAILED + 1))
    fi
    SUMMARY+=("$(printf '%-8s %4d s  %s' "$outcome" $((SECONDS - started)) "$name")")
}

skip() {
    printf '\n==> %s\n    SKIPPED: %s\n' "$1" "$2"
    SKIPPED=$((SKIPPED + 1))
    SUMMARY+=("$(printf '%-8s %4d s  %s: %s' skipped 0 "$1" "$2")")
}

stage 'setup' scripts/setup.sh
[ "$FAILED" -eq 0 ] || die "setup failed: nothing else can be judged"

# Tools of the tests only; setup.sh is for users. Unoptimized: they are built more often than they work.
prepare_tool() {
    local crate=$1 version=$2
    shift 2
    if have "$crate" || has_tool "$crate-$version" "$crate"; then return; fi
    cargo_tool "$crate-$version" "$crate" "$crate" "$version" --debug --version "=$version" "$@" "$crate"
}
prepare_tools() {
    # The client in tests of networks, and one of those in tests of ssh.
    if ! have curl || ! have rsync; then
        apt_get update -qq
        apt_get install -y -qq --no-install-recommends curl rsync
    fi
    prepare_tool cargo-nextest "$NEXTEST_VERSION" --no-default-features --features default-no-update
    prepare_tool cargo-deny "$CARGO_DENY_VERSION"
}
# Real components for the tests of the hook host, which look for them beside their own program.
build_test_plugins() {
    scripts/build-plugins.sh --examples "$(target_folder)/test-plugins" 2>&1 | cargo_progress
}
# The examples for authors beside them, each with the toolchain of its language.
EXAMPLES_SAID=$(mktemp)
build_examples() { scripts/build-examples.sh "$(target_folder)/test-plugins" 2>&1 | tee "$EXAMPLES_SAID"; }
# Everything is compiled in the release profile: dependencies are there from setup, and guests start as
# fast as they do for users.
lint() {
    cargo clippy --release --locked --workspace --exclude 'cove-plugin-*' --all-targets --all-features \
        -- -D warnings 2>&1 | cargo_progress
}
lint_parts() {
    cargo clippy --release --locked --no-default-features --features client --lib --example client \
        -- -D warnings 2>&1 | cargo_progress
    cargo clippy --release --locked --no-default-features --features agent --lib --bin cove-agent \
        -- -D warnings 2>&1 | cargo_progress
}
lint_plugins() {
    local plugins
    mapfile -t plugins < <(cargo metadata --no-deps --format-version 1 |
        grep -o '"name":"cove-plugin-[^"]*"' | sort -u | sed 's/.*:"\(.*\)"/-p\n\1/')
    [ ${#plugins[@]} -gt 0 ]
    cargo clippy --release --locked --target wasm32-wasip2 "${plugins[@]}" -- -D warnings 2>&1 | cargo_progress
}
# cargo deny looks at every crate of the lock file, those of other systems too.
allowed_crates() {
    cargo fetch --locked --quiet
    cargo deny --locked --offline --log-level warn check licenses bans sources
}
# A client of the library, which the end-to-end tests run beside the programs.
build_example() { cargo build --release --locked --example client 2>&1 | cargo_progress; }
documentation() {
    RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --no-deps --all-features \
        --document-private-items 2>&1 | cargo_progress
}

# Runs of their own, because the guest's side is tested on the host and its program must not be built
# there: one has the library with all features, one the programs as setup has built them.
JUNIT="$ROOT/target/nextest/default/junit.xml"
run_tests() {
    local name=$1
    shift
    rm -f "$JUNIT" "$JUNIT.$name"
    # A choice of tests may leave nothing for one of the runs.
    local status=0
    cargo nextest run --release --locked --no-fail-fast --no-tests=pass "$@" || status=$?
    if [ -f "$JUNIT" ]; then mv "$JUNIT" "$JUNIT.$name"; fi
    return $status
}
# Our own code is compiled faster than it runs here: half the time in all.
library_tests() {
    run_tests library --all-features --lib --config 'profile.release.package.cove.opt-level=1' "$@"
}
# What in a plugin is plain Rust; that components work is tested with the library.
plugin_tests() {
    run_tests plugins -p cove-plugin-sdk -p cove-plugin-dotfiles -p cove-plugin-env-file \
        -p cove-plugin-mise --lib "$@"
}
program_tests() { run_tests programs --bins --test '*' "$@"; }

stage 'tools of the tests' prepare_tools
export PATH="$PATH:$COVE_CACHE/tools/cargo-nextest-$NEXTEST_VERSION/bin:$COVE_CACHE/tools/cargo-deny-$CARGO_DENY_VERSION/bin"
stage 'format' cargo fmt --all --check
stage 'licences, bans, sources' allowed_crates
if [ "${COVE_ADVISORIES:-}" = 1 ]; then
    stage 'advisories' cargo deny --locked check advisories
else
    skip 'advisories' 'their database is at github.com, which only COVE_ADVISORIES=1 allows to ask'
fi
stage 'lint: library, programs, tests' lint
stage 'lint: client alone, agent alone' lint_parts
stage 'lint: plugins' lint_plugins
stage 'documentation' documentation
stage 'plugins for the tests' build_test_plugins
stage 'examples of plugins' build_examples
SKIPPED=$((SKIPPED + $(grep -c 'SKIPPED: ' "$EXAMPLES_SAID" || true)))
rm -f "$EXAMPLES_SAID"
stage 'reference of the contract' scripts/build-reference.sh --check
stage 'example for the tests' build_example
stage 'tests of the plugins' plugin_tests "$@"
stage 'tests of the library' library_tests "$@"
stage 'tests of the programs' program_tests "$@"

# Adds up what nextest wrote (.config/nextest.toml): tests that passed, and more in FAILED and SKIPPED.
PASSED=0
# attribute NAME: of the head of a report, which is on stdin; 0 when it is not there.
attribute() { sed -n "s/.* $1=\"\([0-9]*\)\".*/\1/p" | grep . || echo 0; }
count_tests() {
    local report=$1 head tests failures skips
    head=$(grep -m 1 -o '<testsuites [^>]*>' "$report")
    tests=$(attribute tests <<<"$head")
    failures=$(($(attribute failures <<<"$head") + $(attribute errors <<<"$head")))
    # That nothing was skipped is no failure.
    skips=$(grep -c 'SKIPPED: ' "$report" || true)
    if [ "$skips" -gt 0 ]; then
        step 'Tests that could not run here'
        grep -o 'SKIPPED: .*' "$report" | sed 's/&quot;/"/g; s/<.*//; s/^/    /' | sort | uniq -c
    fi
    PASSED=$((PASSED + tests - failures - skips))
    # Their stage has failed as a whole, too: its tests count instead.
    if [ "$failures" -gt 0 ]; then FAILED=$((FAILED - 1 + failures)); fi
    SKIPPED=$((SKIPPED + skips))
}
for report in "$JUNIT".plugins "$JUNIT".library "$JUNIT".programs; do
    if [ -f "$report" ]; then count_tests "$report"; fi
done

step 'Summary'
for line in "${SUMMARY[@]}"; do say "$line"; done
say "$((SECONDS / 60)) min $((SECONDS % 60)) s in all"
say "Below: tests that ran, and with them every stage that failed or was skipped as one."
echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
[ "$FAILED" -eq 0 ]
