# Building what this checkout contains, and the one tool that Debian does not package.
# Sourced by setup.sh and test.sh.
# shellcheck shell=bash

VSOCK_DEVICE_VERSION=0.3.0
# Of our patch to it, scripts/patches/vhost-device-vsock-*.patch: raised with every change of that.
VSOCK_DEVICE_PATCH=2

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
        for file in "$release"/plugins/*/* "$release"/plugins-extra/*/*; do
            place=$checkout/${file#"$release/"}
            mkdir -p "${place%/*}"
            put "$file" "$place"
        done
    fi
    say "in $checkout: cove, coved, cove-agent, plugins/, plugins-extra/"
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

# Installs a program into the cache, once per version:
# FOLDER PROGRAM CRATE VERSION [ARGUMENTS OF cargo install: the crate, or where it lies].
cargo_tool() {
    local folder=$COVE_CACHE/tools/$1 program=$2 crate=$3 version=$4
    shift 4
    say "building $crate $version into $folder"
    # Built in a target folder of its own: the checkout's must not be touched by another lock file.
    # Nobody debugs these.
    CARGO_TARGET_DIR="$COVE_CACHE/tools/.build-$crate" CARGO_PROFILE_DEV_DEBUG=0 \
        cargo install --locked --root "$folder" "$@" 2>&1 | cargo_progress
    rm -rf "$COVE_CACHE/tools/.build-$crate"
    [ -x "$folder/bin/$program" ] || die "cargo install $crate made no $program"
}

# Whether the cache has a program: FOLDER PROGRAM.
has_tool() {
    [ -x "$COVE_CACHE/tools/$1/bin/$2" ] && say "already there: $COVE_CACHE/tools/$1/bin/$2"
}

# The source of a crate as crates.io has it, into a folder that is not there yet: CRATE VERSION FOLDER.
crate_source() {
    local crate=$1 version=$2 folder=$3 asks="$3.asks" found
    mkdir -p "$asks"
    printf '[package]\nname = "asks"\nversion = "0.0.0"\nedition = "2021"\n[lib]\npath = "asks.rs"\n' \
        >"$asks/Cargo.toml"
    printf '[dependencies]\n%s = "=%s"\n' "$crate" "$version" >>"$asks/Cargo.toml"
    touch "$asks/asks.rs"
    # That the crate is a program and no library is warned of, and does not matter here.
    (cd "$asks" && cargo fetch --quiet --target x86_64-unknown-linux-gnu 2>"$asks/said") ||
        die "cargo cannot fetch $crate $version" "$(cat "$asks/said")"
    found=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -maxdepth 2 -name "$crate-$version" | head -n 1)
    [ -n "$found" ] || die "cargo fetched no source of $crate $version"
    cp -r "$found" "$folder"
    rm -rf "$asks"
}

# The vsock device, with our corrections to it.
prepare_vsock_device() {
    local crate=vhost-device-vsock version=$VSOCK_DEVICE_VERSION folder source
    folder=$crate-$version-patch$VSOCK_DEVICE_PATCH
    if has_tool "$folder" "$crate"; then return; fi
    source=$COVE_CACHE/tools/.source-$crate
    rm -rf "$source"
    crate_source "$crate" "$version" "$source"
    # Below a repository, git would take the paths for that repository's.
    (cd "$source" && GIT_CEILING_DIRECTORIES="${source%/*}" \
        git apply -p1 "$ROOT/scripts/patches/$crate-$version.patch")
    cargo_tool "$folder" "$crate" "$crate" "$version" --path "$source"
    rm -rf "$source"
}
