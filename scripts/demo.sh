#!/usr/bin/env bash
# Shows the main job of cove on a real git repository, step by step, and checks every step.
#
#   scripts/demo.sh [REPOSITORY]     (default: this checkout)
#
# DEMO_NET=user gives the guest an outbound network. The default is none: the job needs no network,
# since commands and files go over vsock, and a demonstration should not talk to the internet unasked.
# Nothing of the user is touched: state, home folder, key and identity are made up in a temporary
# folder, which is removed at the end, and kept when something failed.

# shellcheck source=lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

REPOSITORY=$(cd "${1:-$ROOT}" && git rev-parse --show-toplevel) ||
    die "${1:-$ROOT} is not in a git repository" "usage: scripts/demo.sh [REPOSITORY]"
NET=${DEMO_NET:-none}
VM=demo

"$ROOT/scripts/setup.sh"

WORK=$(mktemp -d "${TMPDIR:-/tmp}/cove-demo-XXXXXX")
export COVE_HOME="$WORK/cove-home"
export HOME="$WORK/home"
COVE="$ROOT/target/release/cove"
unset SSH_AUTH_SOCK XDG_CONFIG_HOME GIT_DIR GIT_WORK_TREE

finish() {
    local status=$?
    trap - EXIT
    if [ "$status" -ne 0 ]; then
        printf '\nThe demonstration failed (status %s). The end of the daemon'"'"'s log:\n' "$status" >&2
        { tail -n 20 "$COVE_HOME/coved.log" || true; } >&2
        printf '\nLogs and consoles are kept in %s\n' "$COVE_HOME" >&2
    fi
    # Guests outlive the daemon by design, so they go first.
    local guests
    mapfile -t guests < <("$COVE" list --json 2>/dev/null | grep -o '"name": *"[^"]*"' | cut -d'"' -f4 || true)
    if [ ${#guests[@]} -gt 0 ]; then "$COVE" delete --discard-work "${guests[@]}" >/dev/null 2>&1 || true; fi
    "$COVE" daemon stop >/dev/null 2>&1 || true
    if [ "$status" -eq 0 ]; then rm -rf "$WORK"; fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Shows a command, runs it, and keeps its output in OUTPUT and its status in STATUS. A long output is
# shown without its middle.
OUTPUT='' STATUS=0
show() {
    local word shown='' lines
    for word in "$@"; do
        if [[ $word =~ ^[A-Za-z0-9_./:=%@+,-]+$ ]]; then shown+=" $word"; else shown+=" ${word@Q}"; fi
    done
    printf '    $ cove%s\n' "$shown"
    STATUS=0
    OUTPUT=$("$COVE" "$@" </dev/null) || STATUS=$?
    if [ "$STATUS" -ne 0 ]; then printf '      (exit status %s)\n' "$STATUS"; fi
    [ -n "$OUTPUT" ] || return 0
    lines=$(wc -l <<<"$OUTPUT")
    if [ "$lines" -le 40 ]; then
        sed 's/^/      /' <<<"$OUTPUT"
    else
        head -n 14 <<<"$OUTPUT" | sed 's/^/      /'
        printf '      … %s lines more …\n' $((lines - 28))
        tail -n 14 <<<"$OUTPUT" | sed 's/^/      /'
    fi
}
# Ends the demonstration unless the last command ended with status $1.
ended_with() { [ "$STATUS" -eq "$1" ] || die "expected exit status $1, got $STATUS"; }
# ... unless it printed exactly $1.
printed() { [ "$OUTPUT" = "$1" ] || die "expected \`$1\`, got \`$OUTPUT\`"; }
# ... unless $1 is somewhere in what it printed.
mentioned() { [[ $OUTPUT == *"$1"* ]] || die "expected \`$1\` in the output"; }

step "A developer: an ssh key, a git identity, a note to be copied, uncommitted work"
mkdir -p "$HOME/.ssh" "$COVE_HOME"
ssh-keygen -q -t ed25519 -N '' -C demo@host -f "$HOME/.ssh/id_ed25519"
git config --global user.name 'Demo Developer'
git config --global user.email 'demo@example.org'
git config --global --add safe.directory '*'
echo 'from the host' >"$HOME/.demo-note"
cat >"$COVE_HOME/config.toml" <<'END'
[[file_sync]]
host = "~/.demo-note"
guest = "~/.demo-note"
mode = "0600"
END
# A clone, so that the edit below is not made in anybody's checkout. It is local: no network.
CLONE="$WORK/$(basename "$REPOSITORY")"
git clone --quiet --no-hardlinks "file://$REPOSITORY" "$CLONE"
mapfile -t TRACKED < <(git -C "$CLONE" ls-files)
[ ${#TRACKED[@]} -gt 0 ] || die "$REPOSITORY has no committed files"
EDITED=${TRACKED[0]}
for file in "${TRACKED[@]}"; do
    case ${file,,} in readme* | changelog* | licen[cs]e*) EDITED=$file && break ;; esac
done
printf '\nan edit that is not committed\n' >>"$CLONE/$EDITED"
echo 'SECRET=1' >"$CLONE/.env"
BEFORE=$(cd "$CLONE" && sha256sum .git/index "$EDITED" && git for-each-ref)
say "key $(cut -d' ' -f1 "$HOME/.ssh/id_ed25519.pub"), identity demo@example.org, edited $EDITED, untracked .env"

step "1. Does this host have what cove needs?"
show doctor
[ "$STATUS" -eq 0 ] || die "doctor found something that is in the way: see its rows above"

step "2. What would go in? Nothing is made by asking."
show run --dry-run --net "$NET" "$CLONE"
ended_with 0
mentioned "$EDITED"
mentioned .ssh/authorized_keys
mentioned .demo-note
show list --json
printed '[]'

step "3. The main job: a fresh machine with the repository, one command in it, and it is gone"
show run "$CLONE" --net "$NET" --rm -- git log -1 --format=%s
ended_with 0
printed "$(git -C "$CLONE" log -1 --format=%s)"

step "4. The command's exit status is cove's own"
show run --net "$NET" --rm -- sh -c 'exit 42'
ended_with 42
show list --json
printed '[]'

step "5. A machine that stays, to look around in"
say "without --rm it is kept; the command runs in the repository's folder"
show run "$CLONE" --name "$VM" --net "$NET" -- pwd
ended_with 0
printed "/root/$(basename "$CLONE")"
show exec "$VM" -- cat /root/.ssh/authorized_keys
mentioned "$(cut -d' ' -f1-2 "$HOME/.ssh/id_ed25519.pub")"
show exec "$VM" -- git config user.email
printed 'demo@example.org'
show exec "$VM" -- sh -c 'stat -c %a ~/.demo-note; cat ~/.demo-note'
printed "600"$'\n'"from the host"
show exec "$VM" -- tail -n 1 "$EDITED"
printed 'an edit that is not committed'
say "the untracked .env was left at home:"
show exec "$VM" -- test -e .env
ended_with 1
show list
mentioned "$VM"

step "6. Work comes back, and is not lost by mistake"
show exec "$VM" -- sh -c 'echo "made in the machine" >made.txt && git add made.txt && git commit -qm "Make it"'
ended_with 0
say "nobody has that yet, so the machine is kept:"
show delete "$VM"
ended_with 4
show workspace export "$VM" --apply --yes
ended_with 0
[ "$(cat "$CLONE/made.txt")" = 'made in the machine' ] || die "made.txt did not come"
say "made.txt is among the files of the repository now"

step "7. Clean up, and the rest of the source is as it was"
show delete "$VM"
ended_with 0
show list --json
printed '[]'
[ "$BEFORE" = "$(cd "$CLONE" && sha256sum .git/index "$EDITED" && git for-each-ref)" ] ||
    die "the source repository was changed"
say "index, refs and the edited file of the repository are byte for byte what they were"

step "Done. Try it yourself:"
say "target/release/cove run $REPOSITORY       a shell in a machine of its own"
if [ "$NET" = none ]; then say "DEMO_NET=user scripts/demo.sh             the same with an outbound network"; fi
