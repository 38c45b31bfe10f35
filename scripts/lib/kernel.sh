# The default kernel: Debian's cloud kernel, downloaded and unpacked, never installed.
#
# Result: $COVE_CACHE/kernels/<sha256 of vmlinuz>/{kernel.json,vmlinuz,modules/}. The modules lie
# uncompressed below modules/kernel, with modules.builtin beside it. Sourced by setup.sh.
# shellcheck shell=bash

# The meta package whose dependency is the newest cloud kernel of the suite: few drivers, virtio and
# vsock among them, made for virtual machines.
KERNEL_PACKAGE=linux-image-cloud-amd64

# The digest in kernels/ of a kernel made by the present recipe, or nothing.
find_kernel() {
    local manifest
    for manifest in "$COVE_CACHE"/kernels/*/kernel.json; do
        [ -f "$manifest" ] || continue
        [ "$(field "$manifest" recipe)" = "$1" ] || continue
        [ -s "${manifest%/*}/vmlinuz" ] && [ -s "${manifest%/*}/modules/modules.builtin" ] || continue
        field "$manifest" digest
        return
    done
}

kernel_recipe() { { cat "$ROOT/scripts/lib/kernel.sh"; echo "$SUITE"; } | digest_of; }

# Sets KERNEL_DIGEST.
prepare_kernel() {
    local recipe work package
    recipe=$(kernel_recipe)
    KERNEL_DIGEST=$(find_kernel "$recipe")
    if [ -n "$KERNEL_DIGEST" ] && [ -z "$REFRESH" ]; then
        say "already there: $(field "$COVE_CACHE/kernels/$KERNEL_DIGEST/kernel.json" release)"
        return
    fi
    package=$(apt-cache depends --important "$KERNEL_PACKAGE" 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
    if [ -z "$package" ]; then
        say "apt does not know $KERNEL_PACKAGE yet: fetching the package lists"
        apt_get update -qq
        package=$(apt-cache depends --important "$KERNEL_PACKAGE" |
            sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
    fi
    [ -n "$package" ] || die "apt knows no package $KERNEL_PACKAGE" "Is a Debian mirror among apt's sources?"

    mkdir -p "$COVE_CACHE/downloads" "$COVE_CACHE/kernels"
    work=$(mktemp -d "$COVE_CACHE/kernels/.new-XXXXXX")
    say "downloading and unpacking $package"
    download_package "$package"
    dpkg-deb -x "$DOWNLOADED" "$work/tree"
    publish_kernel "$work" "$package" "$(dpkg-deb -f "$DOWNLOADED" Version)" "$recipe"
    rm -rf "$work"
    say "kernel $(field "$COVE_CACHE/kernels/$KERNEL_DIGEST/kernel.json" release)"
}

# Downloads a package into the cache with apt, which checks its signature, and sets DOWNLOADED.
download_package() {
    local package=$1 folder="$COVE_CACHE/downloads/$1"
    mkdir -p "$folder"
    # apt knows the name of the file it would make; a finished download is used again.
    DOWNLOADED="$folder/$(apt-get download --print-uris "$package" | awk 'NR == 1 { print $2 }')"
    if ! [ -s "$DOWNLOADED" ]; then
        # The list's file is stale when the mirror has dropped this version.
        (cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "$package") || {
            apt_get update -qq
            DOWNLOADED="$folder/$(apt-get download --print-uris "$package" | awk 'NR == 1 { print $2 }')"
            (cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "$package")
        }
    fi
}

publish_kernel() {
    local work=$1 package=$2 version=$3 recipe=$4 release tree made=$1/made
    release=$(basename "$work"/tree/boot/vmlinuz-*)
    release=${release#vmlinuz-}
    # /lib in older packages, /usr/lib in those made after the merge.
    for tree in "$work/tree/lib/modules/$release" "$work/tree/usr/lib/modules/$release"; do
        [ -d "$tree/kernel" ] && break
    done
    mkdir -p "$made/modules"
    mv "$tree/kernel" "$made/modules/kernel"
    mv "$tree/modules.builtin" "$made/modules/"
    mv "$work/tree/boot/vmlinuz-$release" "$made/vmlinuz"
    # Newer suites compress modules; the guest's loader takes them plain.
    find "$made/modules" -name '*.ko.xz' -exec xz -d {} +
    find "$made/modules" -name '*.ko.zst' -exec zstd -q -d --rm {} +
    find "$made" -type f -exec chmod 0444 {} +
    KERNEL_DIGEST=$(digest_of "$made/vmlinuz")
    cat >"$made/kernel.json" <<END
{
  "digest": "$KERNEL_DIGEST",
  "release": "$release",
  "package": "$package",
  "package_version": "$version",
  "made_at": "$(now)",
  "recipe": "$recipe"
}
END
    publish "$made" "$COVE_CACHE/kernels/$KERNEL_DIGEST"
}
