#!/usr/bin/env bash
# How fast the networks of VMs are here, beside what they are compared with in the same run, in turns:
# what a network adds to a start, with and without one made ahead and on the bridge, traffic with and
# without a policy, and answers for the zone of VMs beside a bare hickory server. Figures only: nothing
# passes or fails by time.
#
#   scripts/bench-network.sh      as root, after scripts/setup.sh; takes some minutes
#
# They are the ignored tests called `measure` of tests/net.rs and of the library: all is built as
# scripts/test.sh builds it, and in namespaces of its own, so no packet leaves the machine.

# shellcheck source=lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

cd "$ROOT"
[ "$(id -u)" -eq 0 ] || die "network namespaces are made by root only" "Run this as root."
have pasta || die "pasta is missing" "Run scripts/setup.sh first."

NETWORK=(cargo test --release --locked --test net)
NAMES=(cargo test --release --locked --all-features --lib)

step "Programs"
cargo build --release --locked -p cove-names-floor 2>&1 | cargo_progress
"${NETWORK[@]}" --no-run 2>&1 | cargo_progress
"${NAMES[@]}" --no-run 2>&1 | cargo_progress

step "Machine"
say "$(date -u +%F), cove $(git rev-parse --short HEAD 2>/dev/null || echo 'of no commit')"
say "$(nproc) processors, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
say "$(sed -n 's/^MemTotal: *//p' /proc/meminfo) of memory, Linux $(uname -r)"
say "$(pasta --version | head -n 1)"
say "load before: $(cut -d' ' -f1-3 /proc/loadavg)"

# bench COMMAND… TEST: the lines that the test prints, without those of its harness.
bench() {
    "${@:1:$#-1}" --quiet -- --exact --ignored --nocapture "${!#}" |
        grep -v -e '^running ' -e '^test ' -e '^\.$' -e '^$' || die "${!#} failed"
}

step "Starts"
bench "${NETWORK[@]}" measure::starts_with_and_without_a_network_made_ahead_and_on_the_bridge
step "Traffic"
bench "${NETWORK[@]}" measure::traffic_with_and_without_a_policy
step "Names"
bench "${NAMES[@]}" net::names::tests::measure::answers_for_our_zone_beside_a_bare_hickory_server
