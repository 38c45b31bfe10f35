# The default image: a minimal Debian of the host's own suite, as one read-only ext4 file.
#
# mmdebstrap makes a tar stream (in a user namespace when not root), mke2fs makes the file system of
# it, and nothing is mounted on the host. Result: $COVE_CACHE/images/<sha256>/{image.json,root.ext4}.
# Sourced by setup.sh.
# shellcheck shell=bash

IMAGE_NAME=default
# git and sshd are what a workspace and `cove ssh` need, certificates and iproute2 what the network
# needs. less and procps are small and missed at once in a shell: git pages with less; ps, top, kill. rsync
# (0.9 MB with its libraries) has to be at both ends.
IMAGE_PACKAGES=git,openssh-server,ca-certificates,iproute2,less,procps,rsync
# Fixed, so that the same content gives the same file and the same digest.
IMAGE_UUID=c0e0c0e0-0000-4000-8000-000000000001
# Free space in the file system: it is only ever mounted read-only, under an overlay.
IMAGE_SLACK_KIB=4096

image_recipe() { { cat "$ROOT/scripts/lib/image.sh"; echo "$SUITE"; } | digest_of; }

# The digest in images/ of an image made by the present recipe, or nothing.
find_image() {
    local manifest
    for manifest in "$COVE_CACHE"/images/*/image.json; do
        [ -f "$manifest" ] || continue
        [ "$(field "$manifest" recipe)" = "$1" ] || continue
        # The size tells a file that was cut off; its digest was taken when it was published.
        [ "$(stat -c %s "${manifest%/*}/root.ext4" 2>/dev/null)" = "$(field "$manifest" bytes)" ] || continue
        field "$manifest" digest
        return
    done
}

# Sets IMAGE_DIGEST.
prepare_image() {
    local recipe work
    recipe=$(image_recipe)
    IMAGE_DIGEST=$(find_image "$recipe")
    if [ -n "$IMAGE_DIGEST" ] && [ -z "$REFRESH" ]; then
        say "already there: $(field "$COVE_CACHE/images/$IMAGE_DIGEST/image.json" description)"
        return
    fi
    mkdir -p "$COVE_CACHE/images"
    work=$(mktemp -d "$COVE_CACHE/images/.new-XXXXXX")
    say "collecting Debian $SUITE with $IMAGE_PACKAGES (takes one to two minutes)"
    collect_image "$work/root.tar"
    say "writing the file system"
    mkdir "$work/made"
    write_file_system "$work/root.tar" "$work/made/root.ext4"
    publish_image "$work/made" "$recipe"
    rm -rf "$work"
    say "image $(field "$COVE_CACHE/images/$IMAGE_DIGEST/image.json" description)"
}

# What is done in the new root ($1) when all packages are there. It is handed to mmdebstrap as text,
# because inside the user namespace nobody may read the files of this user.
customize() {
    cat <<'END'
set -eu
# The machine's own things come from cove at every start, never from a shared image.
rm -f "$1"/etc/ssh/ssh_host_*
rm -f "$1"/etc/resolv.conf "$1"/var/lib/dbus/machine-id
: >"$1/etc/resolv.conf"
: >"$1/etc/machine-id"
echo cove >"$1/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$1/etc/hosts"
echo 'LANG=C.UTF-8' >"$1/etc/default/locale"
echo 'LANG=C.UTF-8' >>"$1/etc/environment"
# What mmdebstrap told apt for its own use. The choice of dpkg to leave manuals out is kept.
rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap
rm -rf "$1"/var/cache/apt/*.bin "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*
rm -rf "$1"/var/cache/debconf/*-old "$1"/var/cache/ldconfig/aux-cache
find "$1/var/log" -type f -delete
mkdir -p "$1/run/sshd" "$1/var/lib/apt/lists/partial"
END
}

image_sources() {
    local mirror security
    mirror=$(mirror_of "$SUITE")
    security=$(mirror_of "$SUITE-security")
    printf 'deb %s %s main\n' "${mirror:-http://deb.debian.org/debian}" "$SUITE"
    case $SUITE in
    sid | unstable) ;;
    *)
        printf 'deb %s %s-updates main\n' "${mirror:-http://deb.debian.org/debian}" "$SUITE"
        printf 'deb %s %s-security main\n' "${security:-http://deb.debian.org/debian-security}" "$SUITE"
        ;;
    esac
}

collect_image() {
    local tar=$1 option value options=()
    # How the host's apt reaches its mirror holds here too.
    for option in Acquire::Check-Valid-Until Acquire::http::Proxy Acquire::https::Proxy; do
        value=$(apt-config dump --format '%v' "$option")
        if [ -n "$value" ]; then options+=(--aptopt="$option \"$value\""); fi
    done
    if [ "$(id -u)" -eq 0 ]; then options+=(--mode=root); else options+=(--mode=unshare); fi
    # In the user namespace, a private home or temporary folder of this user is closed.
    image_sources | env --chdir=/ HOME=/ TMPDIR=/var/tmp mmdebstrap "${options[@]}" --quiet \
        --variant=minbase --include="$IMAGE_PACKAGES" --format=tar \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook="$(customize)" \
        "$SUITE" "$tar.part" - 2>"$tar.log" || {
        tail -n 20 "$tar.log" >&2
        die "mmdebstrap could not make the image" "Its last words are above."
    }
    mv "$tar.part" "$tar"
}

# Turns the tar into ext4. The features that only matter to a file system that is written are off:
# no journal, no checksums, no room to grow. The digest of the whole file is its proof.
write_file_system() {
    local tar=$1 file=$2 content files blocks inodes
    # Content in KiB, each entry rounded up to a block of 4 KiB.
    read -r content files < <(tar --list --verbose --file "$tar" |
        awk '{ n++; if ($1 ~ /^-/) kib += int(($3 + 4095) / 4096) * 4; else if ($1 ~ /^d/) kib += 4 } END { print kib, n }')
    inodes=$((files + files / 10 + 64))
    # Four inodes of 256 bytes in a KiB; bitmaps and descriptors are in the slack.
    blocks=$(((content + inodes / 4 + content / 100 + IMAGE_SLACK_KIB + 3) / 4))
    E2FSPROGS_FAKE_TIME=1 mke2fs -q -F -t ext4 -b 4096 -I 256 -N "$inodes" -m 0 \
        -O '^has_journal,^resize_inode,^metadata_csum,^64bit' \
        -U "$IMAGE_UUID" -E "hash_seed=$IMAGE_UUID,nodiscard" -L cove-root \
        -d - "$file" "$blocks" <"$tar"
    e2fsck -fn "$file" >/dev/null 2>&1 || die "the new file system is not clean" "Try again with --refresh."
}

publish_image() {
    local made=$1 recipe=$2 version
    version=$(. /etc/os-release && echo "${VERSION_ID:-testing}")
    IMAGE_DIGEST=$(digest_of "$made/root.ext4")
    cat >"$made/image.json" <<END
{
  "name": "$IMAGE_NAME",
  "digest": "$IMAGE_DIGEST",
  "bytes": $(stat -c %s "$made/root.ext4"),
  "description": "Debian $version ($SUITE) $(date -u +%Y-%m-%d)",
  "suite": "$SUITE",
  "made_at": "$(now)",
  "recipe": "$recipe"
}
END
    chmod 0444 "$made"/*
    publish "$made" "$COVE_CACHE/images/$IMAGE_DIGEST"
}
