#!/bin/sh
# Builds the plugins as WebAssembly components and puts each into a folder ID/{plugin.toml,plugin.wasm}.
#
#   scripts/build-plugins.sh DEST              the standard plugins into DEST, which come granted, and the
#                                              others into DEST-extra, which users install and grant
#   scripts/build-plugins.sh --examples DEST   all of these and those of the tests into DEST
#
# The examples for authors, in four languages, are built by scripts/build-examples.sh.
# Honours CARGO_TARGET_DIR.
set -eu

standard="ssh-key git-identity file-sync"
extra="dotfiles env-file mise"
examples=""
suffix=-extra
if [ "${1:-}" = --examples ]; then
    examples="hostile every-hook"
    suffix=""
    shift
fi
if [ $# -ne 1 ]; then
    echo "usage: scripts/build-plugins.sh [--examples] DEST" >&2
    exit 2
fi

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1" "${1%/}$suffix"
destination=$(cd "$1" && pwd)
cd "$root"
built="${CARGO_TARGET_DIR:-$root/target}/wasm32-wasip2/release"

packages=""
for plugin in $standard $extra $examples; do
    packages="$packages -p cove-plugin-$plugin"
done
# shellcheck disable=SC2086 # one word per package
cargo build --release --locked --target wasm32-wasip2 $packages

# Puts plugins into a folder: FOLDER PLUGIN…
put_into() {
    folder=$1
    shift
    for plugin in "$@"; do
        source="plugins/$plugin"
        [ -d "$source" ] || source="plugins/examples/$plugin"
        [ -d "$source" ] || source="tests/hostile/rust"
        wasm="$built/cove_plugin_$(echo "$plugin" | tr - _).wasm"
        mkdir -p "$folder/$plugin"
        # Written beside and renamed: a daemon that looks meanwhile sees the old file or the new one.
        cp "$source/plugin.toml" "$folder/$plugin/.plugin.toml.new"
        cp "$wasm" "$folder/$plugin/.plugin.wasm.new"
        mv "$folder/$plugin/.plugin.toml.new" "$folder/$plugin/plugin.toml"
        mv "$folder/$plugin/.plugin.wasm.new" "$folder/$plugin/plugin.wasm"
        # What `cove hook test` makes up for it.
        [ ! -f "$source/test.toml" ] || cp "$source/test.toml" "$folder/$plugin/test.toml"
    done
}
# shellcheck disable=SC2086 # one word per plugin
put_into "$destination" $standard
# shellcheck disable=SC2086 # one word per plugin
put_into "$destination$suffix" $extra $examples
