#!/usr/bin/env bash
# Everything that must be true before a change is merged. Calls setup.sh first.
#
#   scripts/test.sh [NEXTEST ARGUMENTS]       for example: scripts/test.sh -E 'test(tidy)'
#
# All stages run even when one fails; the status is 1 then. Tests that need root (network namespaces)
# or a tool that is not there print `SKIPPED: reason` and are counted in the summary.

# shellcheck source=lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=lib/programs.sh
source "$ROOT/scripts/lib/programs.sh"

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

# Tools of the tests only; setup.sh is for users.
prepare_tools() {
    have cargo-nextest || cargo_tool cargo-nextest "$NEXTEST_VERSION" cargo-nextest
    have cargo-deny || cargo_tool cargo-deny "$CARGO_DENY_VERSION" cargo-deny
}
stage 'tools' prepare_tools
export PATH="$PATH:$COVE_CACHE/tools/cargo-nextest-$NEXTEST_VERSION/bin:$COVE_CACHE/tools/cargo-deny-$CARGO_DENY_VERSION/bin"

lint() {
    # In the profile of the tests, so that dependencies are checked and compiled there only once.
    cargo clippy --release --locked --workspace --exclude 'cove-plugin-*' --all-targets --all-features -- -D warnings
    cargo clippy --release --locked --no-default-features --features client --lib -- -D warnings
    cargo clippy --locked --profile agent --no-default-features --features agent --bin cove-agent --lib \
        --target x86_64-unknown-linux-musl -- -D warnings
}
lint_plugins() {
    local plugins
    mapfile -t plugins < <(cargo metadata --no-deps --format-version 1 |
        grep -o '"name":"cove-plugin-[^"]*"' | sort -u | sed 's/.*:"\(.*\)"/-p\n\1/')
    [ ${#plugins[@]} -gt 0 ]
    cargo clippy --release --locked --target wasm32-wasip2 "${plugins[@]}" -- -D warnings
}
# The database of advisories is a git repository elsewhere; all other checks need nothing.
advisories_reachable() {
    timeout 20 git ls-remote --quiet https://github.com/rustsec/advisory-db HEAD >/dev/null 2>&1
}
documentation() { RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --no-deps --all-features --document-private-items; }
# Written by nextest (.config/nextest.toml): what ran, and what each test printed.
JUNIT="$ROOT/target/nextest/default/junit.xml"
run_tests() { cargo nextest run --release --locked --all-features --no-fail-fast "$@"; }

stage 'format' cargo fmt --all --check
stage 'lint: library, programs, tests, client, agent' lint
stage 'lint: plugins' lint_plugins
stage 'licences, bans, sources' cargo deny --locked --offline check licenses bans sources
if advisories_reachable; then
    stage 'advisories' cargo deny --locked check advisories
else
    skip 'advisories' 'the database at github.com/rustsec/advisory-db cannot be reached'
fi
stage 'documentation' documentation
stage 'documentation tests' cargo test --release --locked --all-features --doc
rm -f "$JUNIT"
stage 'tests' run_tests "$@"

# Adds the tests themselves to the stages: PASSED, and more in FAILED and SKIPPED.
PASSED=0
count_tests() {
    local head tests failures skips
    [ -f "$JUNIT" ] || return 0
    head=$(grep -m 1 -o '<testsuites [^>]*>' "$JUNIT")
    tests=$(sed 's/.* tests="\([0-9]*\)".*/\1/' <<<"$head")
    failures=$(($(sed 's/.* failures="\([0-9]*\)".*/\1/' <<<"$head") + $(sed 's/.* errors="\([0-9]*\)".*/\1/' <<<"$head")))
    skips=$(grep -c 'SKIPPED: ' "$JUNIT" || true)
    if [ "$skips" -gt 0 ]; then
        step 'Tests that could not run here'
        grep -o 'SKIPPED: .*' "$JUNIT" | sed 's/&quot;/"/g; s/<.*//; s/^/    /' | sort | uniq -c
    fi
    PASSED=$((tests - failures - skips))
    # The stage of the tests has failed as a whole, too: its tests count instead.
    if [ "$failures" -gt 0 ]; then FAILED=$((FAILED - 1 + failures)); fi
    SKIPPED=$((SKIPPED + skips))
}
count_tests

step 'Summary'
for line in "${SUMMARY[@]}"; do say "$line"; done
say "$((SECONDS / 60)) min in all; a stage that failed or was skipped counts as one below"
echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
[ "$FAILED" -eq 0 ]
