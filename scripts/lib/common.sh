# Common ground of the scripts: talking to the reader, paths, root, publishing. Sourced, never run.
# shellcheck shell=bash

set -Eeuo pipefail
umask 022

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Some continuous integrations start without a home in the environment.
export HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
COVE_CACHE=${COVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cove}
COVE_CACHE=$(realpath -m "$COVE_CACHE")
export COVE_CACHE
# What tools print is read below, so it must be English; and names are UTF-8: without such a locale,
# mke2fs refuses a tar stream with a name like `Főtanúsítvány.crt`.
export LC_ALL=C.UTF-8
# mke2fs and friends live in sbin, which an ordinary user of Debian does not have in PATH.
# rustup puts cargo where only a new login finds it.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin"

trap 'printf "\n%s: line %s failed: %s\n" "${BASH_SOURCE[0]##*/}" "$LINENO" "$BASH_COMMAND" >&2' ERR

# A heading: what comes next.
step() { printf '\n==> %s\n' "$*"; }
# A line about it.
say() { printf '    %s\n' "$*"; }
# The end, with a sentence and, from the second argument on, what to do about it.
die() {
    local line
    printf '\nerror: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    trap - ERR
    exit 1
}

# Makes the hundreds of lines that cargo prints for a long build one line that counts (on a terminal), or
# one in 50 (elsewhere). Everything else, such as warnings and errors, passes.
cargo_progress() {
    local line word count=0 shown=''
    while IFS= read -r line; do
        read -r word _ <<<"$line" || true
        case $word in
        Compiling | Checking)
            count=$((count + 1))
            if [ -t 1 ]; then
                printf '\r\033[K    %s crates, now%s' "$count" "${line#*"$word"}" && shown=yes
            elif [ $((count % 50)) -eq 0 ]; then
                say "$count crates"
            fi
            ;;
        Downloading | Downloaded | Updating | Locking | Adding | Blocking | Finished) ;;
        Installing | Installed | Replacing | Replaced | Documenting | Generated) ;;
        *)
            # What goes into the cache is called by its path.
            [[ $line != 'warning: be sure to add '* ]] || continue
            if [ -n "$shown" ]; then printf '\r\033[K' && shown=''; fi
            printf '%s\n' "$line"
            ;;
        esac
    done
    if [ -n "$shown" ]; then printf '\r\033[K'; fi
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command with root's rights, and says so when they have to be borrowed.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        say "with sudo: $*" >&2
        sudo -- "$@"
    else
        die "this step needs root, and there is no sudo: $*" \
            "Run scripts/setup.sh once as root, or install sudo and allow it for $(id -un)."
    fi
}

# The sha256 of a file, or of stdin.
digest_of() { sha256sum "$@" | cut -d' ' -f1; }

now() { date -u +%Y-%m-%dT%H:%M:%SZ; }

# Moves a finished folder to its place in one step. One that is there is older and makes way: what
# others have linked from it stays theirs.
publish() {
    local made=$1 place=$2
    mkdir -p "$(dirname "$place")"
    if [ -e "$place" ]; then mv -T "$place" "$made.old"; fi
    mv -T "$made" "$place"
}

# A value of one of our own manifests (flat JSON, one key per line).
field() { sed -n "s/^ *\"$2\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$1"; }
