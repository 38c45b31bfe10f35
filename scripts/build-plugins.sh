#!/bin/sh
# Builds the plugins as WebAssembly components and puts them into DEST/ID/{plugin.toml,plugin.wasm}.
#
#   scripts/build-plugins.sh DEST              the standard plugins, as they are installed
#   scripts/build-plugins.sh --examples DEST   these and those of the tests, as the tests want them
#
# Honours CARGO_TARGET_DIR.
set -eu

plugins="ssh-key git-identity file-sync"
examples=""
if [ "${1:-}" = --examples ]; then
    examples="hostile dotfiles env-file"
    shift
fi
if [ $# -ne 1 ]; then
    echo "usage: scripts/build-plugins.sh [--examples] DEST" >&2
    exit 2
fi

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
destination=$(cd "$1" && pwd)
cd "$root"
built="${CARGO_TARGET_DIR:-$root/target}/wasm32-wasip2/release"

packages=""
for plugin in $plugins $examples; do
    packages="$packages -p cove-plugin-$plugin"
done
# shellcheck disable=SC2086 # one word per package
cargo build --release --locked --target wasm32-wasip2 $packages

for plugin in $plugins $examples; do
    source="plugins/$plugin"
    [ "$plugin" != hostile ] || source="tests/hostile/rust"
    wasm="$built/cove_plugin_$(echo "$plugin" | tr - _).wasm"
    mkdir -p "$destination/$plugin"
    # Written beside and renamed: a daemon that looks meanwhile sees the old file or the new one.
    cp "$source/plugin.toml" "$destination/$plugin/.plugin.toml.new"
    cp "$wasm" "$destination/$plugin/.plugin.wasm.new"
    mv "$destination/$plugin/.plugin.toml.new" "$destination/$plugin/plugin.toml"
    mv "$destination/$plugin/.plugin.wasm.new" "$destination/$plugin/plugin.wasm"
done
