# Building what this checkout contains, and the one tool that Debian does not package.
# Sourced by setup.sh and test.sh.
# shellcheck shell=bash

VSOCK_DEVICE_VERSION=0.3.0

# rustup makes the toolchain of rust-toolchain.toml; nothing of it is installed system-wide.
prepare_rust() {
    if ! have rustup && [ -n "$(apt-cache show rustup 2>/dev/null | head -n 1)" ]; then
        say "installing rustup, which provides the Rust toolchain"
        apt_get install -y -qq --no-install-recommends rustup
    fi
    have rustup || die "rustup is missing: it provides the Rust toolchain this project is built with" \
        "Get it from https://rustup.rs, then run this again." \
        "Nothing else is wanted: the version and its targets are in rust-toolchain.toml."
    cd "$ROOT"
    local channel targets target present
    channel=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
    if ! grep -q "^$channel-" <<<"$(rustup toolchain list)"; then
        say "installing Rust $channel"
        rustup toolchain install "$channel" --profile minimal --component clippy --component rustfmt
    fi
    targets=$(sed -n 's/^targets = \[\(.*\)\]$/\1/p' rust-toolchain.toml | tr -d '",')
    present=$(rustup target list --installed --toolchain "$channel")
    for target in $targets; do
        if ! grep -qx "$target" <<<"$present"; then
            say "adding target $target"
            rustup target add --toolchain "$channel" "$target"
        fi
    done
    say "$(rustc --version), targets $targets"
}

# The folder that cargo builds into.
target_folder() { echo "${CARGO_TARGET_DIR:-$ROOT/target}"; }

build_programs() {
    local release checkout="$ROOT/target/release" file place
    cd "$ROOT"
    release="$(target_folder)/release"
    say "from nothing this takes some minutes: a WebAssembly compiler is among what is built"
    # Not with all features: they would put an agent for the host where the guest's belongs.
    cargo build --release --locked 2>&1 | cargo_progress
    say "cove and coved are built; now the agent and the plugins, which are small"
    build_agent 2>&1 | cargo_progress
    put "$(target_folder)/x86_64-unknown-linux-musl/agent/cove-agent" "$release/cove-agent"
    "$ROOT/scripts/build-plugins.sh" "$release/plugins" 2>&1 | cargo_progress
    if [ "$(realpath "$release")" != "$(realpath -m "$checkout")" ]; then
        mkdir -p "$checkout"
        for file in cove coved cove-agent; do put "$release/$file" "$checkout/$file"; done
        for file in "$release"/plugins/*/*; do
            place=$checkout/${file#"$release/"}
            mkdir -p "${place%/*}"
            put "$file" "$place"
        done
    fi
    say "in $checkout: cove, coved, cove-agent, plugins/"
}

build_agent() {
    cargo build --locked --profile agent --no-default-features --features agent \
        --bin cove-agent --target x86_64-unknown-linux-musl
}

# A copy put in place by rename: a program that runs keeps its file. The same content is left alone,
# so that what is keyed by it stays valid.
put() {
    if ! cmp -s "$1" "$2"; then
        cp "$1" "$2.new"
        mv "$2.new" "$2"
    fi
}

# Installs a program from crates.io into the cache, once per version:
# CRATE VERSION PROGRAM [ARGUMENTS OF cargo install].
cargo_tool() {
    local crate=$1 version=$2 program=$3 folder="$COVE_CACHE/tools/$1-$2"
    shift 3
    if [ -x "$folder/bin/$program" ]; then
        say "already there: $folder/bin/$program"
        return
    fi
    say "building $crate $version into $folder"
    # Built in a target folder of its own: the checkout's must not be touched by another lock file.
    # Nobody debugs these.
    CARGO_TARGET_DIR="$COVE_CACHE/tools/.build-$crate" CARGO_PROFILE_DEV_DEBUG=0 \
        cargo install --locked --version "=$version" --root "$folder" "$@" "$crate" 2>&1 |
        cargo_progress
    rm -rf "$COVE_CACHE/tools/.build-$crate"
    [ -x "$folder/bin/$program" ] || die "cargo install $crate made no $program"
}

prepare_vsock_device() { cargo_tool vhost-device-vsock "$VSOCK_DEVICE_VERSION" vhost-device-vsock; }
