#!/usr/bin/env bash
# Makes this checkout ready for use: host packages, programs, kernel, image. Safe to run again: what
# is there is kept, and a second run takes seconds.
#
#   scripts/setup.sh              everything
#   scripts/setup.sh --refresh    also make the default kernel and image anew
#   scripts/setup.sh --no-build   packages, kernel and image only
#
# COVE_CACHE (default ~/.cache/cove) keeps what can be made again; CARGO_TARGET_DIR is honoured, and
# the programs end up in target/release of this checkout in any case.

# shellcheck source=lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=lib/host.sh
source "$ROOT/scripts/lib/host.sh"
# shellcheck source=lib/programs.sh
source "$ROOT/scripts/lib/programs.sh"
# shellcheck source=lib/kernel.sh
source "$ROOT/scripts/lib/kernel.sh"
# shellcheck source=lib/image.sh
source "$ROOT/scripts/lib/image.sh"
# shellcheck source=lib/cache.sh
source "$ROOT/scripts/lib/cache.sh"

REFRESH='' BUILD=yes
for argument in "$@"; do
    case $argument in
    --refresh) REFRESH=yes ;;
    --no-build) BUILD='' ;;
    *) die "unknown argument: $argument" "usage: scripts/setup.sh [--refresh] [--no-build]" ;;
    esac
done

read_host
step "Host packages (Debian $SUITE)"
say "QEMU runs the guests; mmdebstrap and mke2fs make their image; passt carries their network; nft shows its rules."
prepare_packages
step "Rights that guests and image need"
prepare_rights

if [ -n "$BUILD" ]; then
    step "Rust"
    prepare_rust
    step "Programs"
    say "cove, coved, the guest agent (static, musl) and the standard plugins (WebAssembly)."
    build_programs
fi

lock_cache
if [ -n "$BUILD" ]; then
    step "vhost-device-vsock $VSOCK_DEVICE_VERSION, with corrections of ours"
    say "Carries the connection to a guest where /dev/vhost-vsock cannot be opened."
    prepare_vsock_device
fi
step "Default kernel"
say "Debian's cloud kernel, downloaded and unpacked into the cache; nothing is installed."
prepare_kernel
step "Default image"
say "A minimal Debian $SUITE as one read-only file, shared by all guests."
prepare_image
publish_default

step "Ready"
say "cache     $COVE_CACHE"
if [ -n "$BUILD" ]; then
    say "programs  $ROOT/target/release"
    say "Next: scripts/demo.sh shows the main job on a real repository;"
    say "      target/release/cove doctor checks this host."
fi
