#!/usr/bin/env bash
# Builds the example plugins, each with the toolchain of its language, into DEST/ID/{plugin.toml,plugin.wasm}.
#
#   scripts/build-examples.sh [--only LANGUAGE] DEST      LANGUAGE: rust, python, javascript, c
#
# Toolchains go into COVE_CACHE/tools, once per version; clang and the C library come from Debian. An example
# whose toolchain cannot be had here is left out with a line `SKIPPED: reason`. Honours CARGO_TARGET_DIR.

# shellcheck source=lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=lib/host.sh
source "$ROOT/scripts/lib/host.sh"
# shellcheck source=lib/programs.sh
source "$ROOT/scripts/lib/programs.sh"
# shellcheck source=lib/toolchains.sh
source "$ROOT/scripts/lib/toolchains.sh"

LANGUAGES='rust python javascript c'
if [ "${1:-}" = --only ]; then
    LANGUAGES=${2:-}
    shift 2
fi
[ $# -eq 1 ] || die "one folder is wanted" "usage: scripts/build-examples.sh [--only LANGUAGE] DEST"
mkdir -p "$1"
DEST=$(realpath "$1")
WIT=$ROOT/wit/0.2.0
WORLD=prepare-work-disk-plugin
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$ROOT"

# Each leaves a component at $2, made of the example in $1.

compile_rust() {
    cargo build --release --locked --target wasm32-wasip2 -p cove-plugin-greeting 2>&1 | cargo_progress
    cp "$(target_folder)/wasm32-wasip2/release/cove_plugin_greeting.wasm" "$2"
}

compile_python() {
    # It looks for the application and leaves what it made of the contract where it runs.
    cp "$1/app.py" "$WORK"
    (cd "$WORK" && "$COMPONENTIZE_PY" --quiet -d "$WIT" -w "$WORLD" componentize app -o "$2")
}

compile_javascript() {
    node "$COMPONENTIZE_JS/componentize.mjs" "$1/plugin.js" "$WIT" "$WORLD" "$2"
}

compile_c() {
    local generated=prepare_work_disk_plugin library=/usr/lib/wasm32-wasi source
    "$WIT_BINDGEN" c --autodrop-borrows yes --world "$WORLD" --out-dir "$WORK" "$WIT" >"$WORK/said" 2>&1 ||
        die 'wit-bindgen makes no bindings for C' "$(cat "$WORK/said")"
    for source in "$1/plugin.c" "$WORK/$generated.c"; do
        clang --target=wasm32-wasi -std=c17 -Oz -Wall -Wextra -I "$WORK" \
            -c "$source" -o "$WORK/$(basename "$source" .c).o"
    done
    # A reactor: it is called, and has no main.
    "$RUST_LINKERS/wasm-component-ld" --wasm-ld-path "$RUST_LINKERS/gcc-ld/wasm-ld" \
        --entry _initialize --strip-all --gc-sections -L "$library" "$library/crt1-reactor.o" \
        "$WORK/plugin.o" "$WORK/$generated.o" "$WORK/${generated}_component_type.o" -lc -o "$2"
}

BUILT=0 SKIPPED=0
for language in $LANGUAGES; do
    source=$ROOT/plugins/examples/$language
    [ -f "$source/plugin.toml" ] || die "there is no example in $language" "There are: rust python javascript c"
    id=$(sed -n 's/^id = "\(.*\)"$/\1/p' "$source/plugin.toml")
    step "$id, in $language"
    if ! "prepare_$language" >"$WORK/toolchain" 2>&1; then
        printf '    SKIPPED: the example in %s: %s\n' "$language" "$(tail -n 1 "$WORK/toolchain")"
        SKIPPED=$((SKIPPED + 1))
        continue
    fi
    started=$SECONDS
    "compile_$language" "$source" "$WORK/plugin.wasm"
    mkdir -p "$DEST/$id"
    put "$source/plugin.toml" "$DEST/$id/plugin.toml"
    put "$WORK/plugin.wasm" "$DEST/$id/plugin.wasm"
    say "$(stat -c %s "$WORK/plugin.wasm") bytes in $((SECONDS - started)) s: $DEST/$id"
    BUILT=$((BUILT + 1))
done
step 'Examples'
say "$BUILT built, $SKIPPED skipped"
