#!/usr/bin/env bash
# Makes wit/VERSION/reference.md, the contract with plugins for readers, of the WIT beside it.
#
#   scripts/build-reference.sh            writes it
#   scripts/build-reference.sh --check    fails when it is not what would be written

# shellcheck source=lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=lib/programs.sh
source "$ROOT/scripts/lib/programs.sh"
# shellcheck source=lib/toolchains.sh
source "$ROOT/scripts/lib/toolchains.sh"

WIT=$ROOT/wit/0.2.0
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

prepare_wit_bindgen
"$WIT_BINDGEN" markdown --world plugin --out-dir "$WORK" "$WIT" >"$WORK/said" 2>&1 ||
    die 'wit-bindgen makes no reference' "$(cat "$WORK/said")"
{
    printf '<!-- Made of hooks.wit by scripts/build-reference.sh: change that, not this. -->\n\n'
    # Paragraphs that HTML would want are none in Markdown.
    sed 's/<p>//; s/[[:space:]]*$//' "$WORK/plugin.md" | cat -s
} >"$WORK/reference.md"

if [ "${1:-}" = --check ]; then
    diff -u "$WIT/reference.md" "$WORK/reference.md" >&2 ||
        die "$WIT/reference.md is not up to date" 'Run scripts/build-reference.sh'
    say "up to date: $WIT/reference.md"
else
    put "$WORK/reference.md" "$WIT/reference.md"
    say "written: $WIT/reference.md"
fi
