#!/usr/bin/env bash
# How fast files go into a machine and out of it here, beside the ordinary ways in the same run and the same
# guest: `workspace prepare` beside a push over ssh and `tar | ssh tar`, `cp` beside the bare stream of a
# command, a second prepare beside the first. Figures only: nothing passes or fails by time.
#
#   scripts/bench-workspace.sh [FILES] [MIB]    after scripts/setup.sh; 20000 files and 300 MiB when not given
#
# ROUNDS (3), COPY_MIB (256) and LARGE_MIB (2048) change how much is measured.
#
# Machines have no network; state lies in a temporary folder, which is removed at the end.

# shellcheck source=lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

FILES=${1:-20000} MIB=${2:-300}
ROUNDS=${ROUNDS:-3} CHANGED=10 COPY_MIB=${COPY_MIB:-256} LARGE_MIB=${LARGE_MIB:-2048}
COVE="$ROOT/target/release/cove"
[ -x "$COVE" ] || die "$COVE is missing" "Run scripts/setup.sh first."
have ssh || die "ssh is missing" "Run scripts/setup.sh first."

WORK=$(mktemp -d "${TMPDIR:-/tmp}/cove-bench-XXXXXX")
export COVE_HOME="$WORK/cove" HOME="$WORK/home" GIT_CONFIG_NOSYSTEM=1
unset SSH_AUTH_SOCK XDG_CONFIG_HOME GIT_DIR GIT_WORK_TREE
finish() {
    local status=$?
    trap - EXIT
    "$COVE" delete --discard-work bench >/dev/null 2>&1 || true
    "$COVE" daemon stop >/dev/null 2>&1 || true
    rm -rf "$WORK"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT

# ms COMMAND…: how long it takes, in milliseconds.
ms() {
    local begun=${EPOCHREALTIME/./}
    "$@" >"$WORK/said" 2>&1 || die "failed: $*" "$(tail -n 5 "$WORK/said")"
    echo $(((${EPOCHREALTIME/./} - begun) / 1000))
}
median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
# ratio A B: A / B with two digits.
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
# rate MIB MILLISECONDS: MiB/s.
rate() { awk -v mib="$1" -v ms="$2" 'BEGIN { printf "%.1f", mib * 1000 / ms }'; }
guest() { "$COVE" exec bench -- sh -c "cd /root && $1"; }

step "Machine"
say "$(date -u +%F), cove $(git -C "$ROOT" rev-parse --short HEAD 2>/dev/null || echo 'of no commit')"
say "$(nproc) processors, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
say "$(sed -n 's/^MemTotal: *//p' /proc/meminfo) of memory, Linux $(uname -r)"
say "load before: $(cut -d' ' -f1-3 /proc/loadavg)"

step "A repository of $FILES files and $MIB MiB that do not compress"
mkdir -p "$HOME" "$COVE_HOME" "$WORK/repo"
git config --global user.name Bench
git config --global user.email bench@example.org
git config --global gc.auto 0
git init --quiet --initial-branch=main "$WORK/repo"
head -c "${MIB}M" /dev/urandom |
    (cd "$WORK/repo" && split --bytes=$((MIB * 1048576 / FILES)) --suffix-length=6 --numeric-suffixes \
        --filter='mkdir -p "${FILE:0:5}" && cat >"${FILE:0:5}/$FILE"' - f)
git -C "$WORK/repo" add --all
git -C "$WORK/repo" commit --quiet --message First
say "$(git -C "$WORK/repo" ls-files | wc -l) files"
"$COVE" run -d --name bench --net none --memory 1G --disk 8G >/dev/null
"$COVE" ssh-config >"$WORK/ssh"
ssh() { command ssh -F "$WORK/ssh" "$@"; }

step "The first session of ssh"
say "first  $(ms ssh bench.cove true) ms"
say "second $(ms ssh bench.cove true) ms"

push() {
    git -C "$WORK/repo" -c core.sshCommand="ssh -F $WORK/ssh" push --quiet "ssh://bench.cove/root/pushed" HEAD:main
    guest 'git -C pushed checkout --quiet main'
}
tar_over_ssh() { tar --create --directory "$WORK" repo | ssh bench.cove tar --extract --directory tarred; }
prepare() { "$COVE" workspace prepare bench "$WORK/repo" --discard-work; }
change() {
    git -C "$WORK/repo" ls-files | shuf -n $CHANGED | while read -r file; do echo "$RANDOM" >>"$WORK/repo/$file"; done
}

step "Into the guest, $ROUNDS rounds in turns"
pushes=() tars=() prepares=() seconds=()
for ((round = 0; round < ROUNDS; round++)); do
    guest 'rm -rf repo pushed tarred && mkdir tarred && git init --quiet pushed && sync'
    prepares+=("$(ms prepare)")
    change
    seconds+=("$(ms prepare)")
    pushes+=("$(ms push)")
    tars+=("$(ms tar_over_ssh)")
    say "prepare ${prepares[-1]} ms, again after $CHANGED files ${seconds[-1]} ms, push ${pushes[-1]} ms, tar ${tars[-1]} ms"
done
prepare_ms=$(median "${prepares[@]}") second_ms=$(median "${seconds[@]}")
push_ms=$(median "${pushes[@]}") tar_ms=$(median "${tars[@]}")
best=$((push_ms < tar_ms ? push_ms : tar_ms))
say "medians: prepare $prepare_ms ms, push over ssh with checkout $push_ms ms, tar over ssh $tar_ms ms"
say "prepare / the better one: $(ratio "$prepare_ms" "$best")"
say "second prepare / first: $(ratio "$second_ms" "$prepare_ms")"

step "One file of $COPY_MIB MiB, $ROUNDS rounds in turns"
head -c "${COPY_MIB}M" /dev/urandom >"$WORK/file"
raw_in() { "$COVE" exec bench -- sh -c 'cat >/dev/null' <"$WORK/file"; }
raw_out() { "$COVE" exec bench -- cat file >/dev/null; }
ins=() raw_ins=() outs=() raw_outs=()
for ((round = 0; round < ROUNDS; round++)); do
    ins+=("$(ms "$COVE" cp "$WORK/file" bench:)")
    raw_ins+=("$(ms raw_in)")
    outs+=("$(ms "$COVE" cp bench:file "$WORK/back")")
    raw_outs+=("$(ms raw_out)")
    cmp "$WORK/file" "$WORK/back"
done
in_ms=$(median "${ins[@]}") raw_in_ms=$(median "${raw_ins[@]}")
out_ms=$(median "${outs[@]}") raw_out_ms=$(median "${raw_outs[@]}")
say "in:  $(rate $COPY_MIB "$in_ms") MiB/s, bare stream $(rate $COPY_MIB "$raw_in_ms"), ratio $(ratio "$raw_in_ms" "$in_ms")"
say "out: $(rate $COPY_MIB "$out_ms") MiB/s, bare stream $(rate $COPY_MIB "$raw_out_ms"), ratio $(ratio "$raw_out_ms" "$out_ms")"

step "Memory of the daemon while $LARGE_MIB MiB go in"
daemon=$("$COVE" daemon status --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
resident() { sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$daemon/status"; }
before=$(resident) most=0
truncate --size="${LARGE_MIB}M" "$WORK/large"
"$COVE" cp "$WORK/large" bench: >/dev/null 2>&1 &
while kill -0 $! 2>/dev/null; do
    now=$(resident)
    most=$((now > most ? now : most))
    sleep 0.2
done
wait $!
say "before $((before / 1024)) MiB, at most $((most / 1024)) MiB"
