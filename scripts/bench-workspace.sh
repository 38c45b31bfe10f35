#!/usr/bin/env bash
# How fast files go into a machine and out of it here, beside the ordinary ways in the same run and the same
# guest: `workspace prepare` beside a push over ssh and `tar | ssh tar`, a second prepare beside the first, `cp`
# beside the bare vsock, a command beside a process in the guest that is asked for one and forks; and the memory that
# large copies take. Figures only: nothing passes or fails by time.
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
for tool in ssh perl; do have "$tool" || die "$tool is missing" "Install it, or run scripts/setup.sh first."; done

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
# ratio A B: A / B with two digits; none where B was not measured.
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.2f", a / b; else printf "none" }'; }
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

# What was changed in the last two minutes is read again by the next prepare; a repository that somebody works in is
# older than that.
settle() {
    local wait=$((125 - $(date +%s) + $(stat --format %Z "$WORK/repo/$(git -C "$WORK/repo" ls-files | tail -n 1)")))
    [ "$wait" -le 0 ] || sleep "$wait"
}

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
settle
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

# The bare vsock: a listener in the guest that throws away what comes, sends what nobody has made or a file, answers each
# byte with it, or when it has forked, run a program that does nothing and waited for it; and one that connects to it as
# the daemon does, without the daemon. Both move 256 KiB at a time.
BARE_GUEST='
    socket(my $listener, 40, 1, 0) or die "socket: $!";
    bind($listener, pack("S S L L x4", 40, 0, 7777, 0xffffffff)) or die "bind: $!";
    listen($listener, 8) or die "listen: $!";
    $SIG{CHLD} = "IGNORE";
    while (accept(my $stream, $listener)) {
        next if fork;
        $SIG{CHLD} = "DEFAULT";
        my ($wish, $buffer, $left) = ("", "", $ARGV[0] * 1048576);
        sysread($stream, $wish, 1);
        if ($wish eq "i") {
            while ($left > 0) { $left -= sysread($stream, $buffer, 262144) || last }
            syswrite($stream, "d") if $left == 0;
        } elsif ($wish eq "o") {
            $buffer = "x" x 262144;
            while ($left > 0) { $left -= syswrite($stream, $buffer, $left) || last }
        } elsif ($wish eq "f") {
            open(my $file, "<", "/root/file") or die "open: $!";
            while (my $length = sysread($file, $buffer, 262144)) {
                for (my $at = 0; $at < $length;) { $at += syswrite($stream, $buffer, $length - $at, $at) || exit }
            }
        } else {
            while (sysread($stream, $buffer, 64)) {
                if ($wish eq "e") {
                    my $child = fork // die "fork: $!";
                    exec "/bin/true" if $child == 0;
                    waitpid $child, 0;
                }
                syswrite($stream, $buffer);
            }
        }
        exit;
    }'
BARE_HOST='
    use Socket;
    use Time::HiRes "time";
    my ($folder, $wish, $mib) = @ARGV;
    chdir $folder or die "chdir: $!";
    socket(my $stream, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
    connect($stream, sockaddr_un("vsock.sock")) or die "connect: $!";
    syswrite($stream, "CONNECT 7777\n");
    my ($answer, $buffer, $left) = ("", "", $mib * 1048576);
    while ($answer !~ /\n/) { sysread($stream, $answer, 1, length $answer) or die "refused" }
    syswrite($stream, $wish);
    if ($wish eq "i") {
        while (my $length = sysread(STDIN, $buffer, 262144)) {
            for (my $at = 0; $at < $length;) { $at += syswrite($stream, $buffer, $length - $at, $at) || die "write: $!" }
        }
        sysread($stream, $buffer, 1) == 1 or die "not all of it came";
    } elsif ($wish eq "o" or $wish eq "f") {
        while ($left > 0) { $left -= sysread($stream, $buffer, 262144) || die "not all of it came" }
    } else {
        my @took;
        for (1 .. 101) {
            my $begun = time;
            syswrite($stream, "x");
            sysread($stream, $buffer, 64);
            push @took, (time - $begun) * 1e6;
        }
        printf "%d\n", (sort { $a <=> $b } @took)[50];
    }'
# Where no process stands for the guest's vsock, a command's own stream has to stand for the bare one.
folder=$(echo "$COVE_HOME"/vms/*)
stream_in() { "$COVE" exec bench -- sh -c 'cat >/dev/null' <"$WORK/file"; }
stream_out() { "$COVE" exec bench -- cat /root/file >/dev/null; }
if [ -S "$folder/vsock.sock" ]; then
    bare() { perl -e "$BARE_HOST" "$folder" "$1" "$COPY_MIB"; }
else
    bare() { case $1 in i) stream_in ;; o | f) stream_out ;; *) echo 0 ;; esac; }
fi

step "One file of $COPY_MIB MiB, $ROUNDS rounds in turns"
say "in: until it is on the guest's disk and in its place; bare: until the last byte has come, which goes nowhere"
head -c "${COPY_MIB}M" /dev/urandom >"$WORK/file"
bare_in() { bare i <"$WORK/file"; }
bare_out() { bare o; }
bare_file() { bare f; }
"$COVE" exec --detach bench -- perl -e "$BARE_GUEST" "$COPY_MIB" >/dev/null
for ((attempt = 0; attempt < 50; attempt++)); do
    bare p >/dev/null 2>&1 && break
    sleep 0.2
done
copy_ins=() stream_ins=() bare_ins=() copy_outs=() stream_outs=() bare_outs=() bare_files=()
for ((round = 0; round < ROUNDS; round++)); do
    # To remove what has the name takes as long whoever does it.
    guest 'rm -f file'
    rm -f "$WORK/back"
    copy_ins+=("$(ms "$COVE" cp "$WORK/file" bench:)")
    bare_ins+=("$(ms bare_in)")
    stream_ins+=("$(ms stream_in)")
    copy_outs+=("$(ms "$COVE" cp bench:file "$WORK/back")")
    bare_outs+=("$(ms bare_out)")
    bare_files+=("$(ms bare_file)")
    stream_outs+=("$(ms stream_out)")
    cmp "$WORK/file" "$WORK/back"
done
# beside WHICH COPY BARE STREAM: rates, and that of cp as a part of the bare one.
beside() {
    say "$1 cp $(rate "$COPY_MIB" "$2") MiB/s, bare vsock $(rate "$COPY_MIB" "$3"), cp / bare $(ratio "$3" "$2");" \
        "through a command $(rate "$COPY_MIB" "$4")"
}
beside "in: " "$(median "${copy_ins[@]}")" "$(median "${bare_ins[@]}")" "$(median "${stream_ins[@]}")"
beside "out:" "$(median "${copy_outs[@]}")" "$(median "${bare_outs[@]}")" "$(median "${stream_outs[@]}")"
file_ms=$(median "${bare_files[@]}")
say "out, bare, where the guest reads what it sends from that file: $(rate "$COPY_MIB" "$file_ms") MiB/s"

step "A command in a machine that runs, on a connection that is kept, $ROUNDS rounds in turns"
# p50 KEY: a median of what was found, in microseconds.
p50() { tr -d ' \n' <"$WORK/exec" | sed -n "s/.*\"$1\":{[^}]*\"p50_ms\":\([0-9.]*\).*/\1/p" | awk '{ printf "%d", $1 * 1000 }'; }
ours=() floors=() answers=() forks=()
for ((round = 0; round < ROUNDS; round++)); do
    "$COVE" bench exec --vm bench --runs 50 --json >"$WORK/exec" 2>"$WORK/said" || die "failed: cove bench exec" "$(tail -n 5 "$WORK/said")"
    ours+=("$(p50 cove)") floors+=("$(p50 floor)") answers+=("$(bare p)") forks+=("$(bare e)")
done
our=$(median "${ours[@]}") floor=$(median "${floors[@]}") answer=$(median "${answers[@]}") fork=$(median "${forks[@]}")
say "exec true $our us; by the agent alone, without the daemon, $floor us, ratio $(ratio "$our" "$floor")"
say "one byte there and back $answer us, with fork and exec of a program in between $fork us, ratio $(ratio "$our" "$fork")"

step "Memory while $LARGE_MIB MiB go in, and out again"
daemon=$("$COVE" daemon status --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
# kib PID FIELD: of /proc/PID/status.
kib() { sed -n "s/^$2:[[:space:]]*\([0-9]*\) kB/\1/p" "/proc/$1/status" 2>/dev/null; }
# memory COMMAND…: what the daemon has before it, at most and after it, and its client at most.
memory() {
    local before client most=0 now
    # From here on, the most is counted anew.
    echo 5 >"/proc/$daemon/clear_refs"
    before=$(kib "$daemon" VmRSS)
    "$@" >"$WORK/said" 2>&1 &
    client=$!
    while kill -0 "$client" 2>/dev/null; do
        now=$(kib "$client" VmHWM)
        most=${now:-$most}
        sleep 0.2
    done
    wait "$client" || die "failed: $*" "$(tail -n 5 "$WORK/said")"
    say "daemon $before KiB, at most $(kib "$daemon" VmHWM), then $(kib "$daemon" VmRSS); cp at most $most KiB"
}
truncate --size="${LARGE_MIB}M" "$WORK/large"
memory "$COVE" cp "$WORK/large" bench:
memory "$COVE" cp bench:large "$WORK/large-back"
cmp "$WORK/large" "$WORK/large-back"
