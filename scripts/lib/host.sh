# What the host must have: packages, device permissions, user namespaces. Sourced by setup.sh.
# shellcheck shell=bash

# What is needed, and the command or file that shows it is there.
#   package               proof
HOST_PACKAGES='
qemu-system-x86           qemu-system-x86_64
seabios                   /usr/share/seabios/bios-microvm.bin
mmdebstrap                mmdebstrap
e2fsprogs                 mke2fs
git                       git
openssh-client            ssh
passt                     pasta
nftables                  nft
iproute2                  ip
uidmap                    newuidmap
xz-utils                  xz
zstd                      zstd
tar                       tar
gcc                       cc
libc6-dev                 /usr/include/stdio.h
ca-certificates           /etc/ssl/certs/ca-certificates.crt
'
# mke2fs opens the library that reads tar streams only when it meets one. Its package changed its
# name with the 64-bit time_t.
TAR_LIBRARY_PACKAGES='libarchive13t64 libarchive13'

# mke2fs reads a tar stream from this version on.
MINIMUM_E2FSPROGS=1.47.1
# The first QEMU that cove is tested with.
MINIMUM_QEMU=8.2

# Sets SUITE, or ends with a sentence.
read_host() {
    local id
    id=$(. /etc/os-release && echo "${ID:-}")
    SUITE=$(. /etc/os-release && echo "${VERSION_CODENAME:-sid}")
    [ "$id" = debian ] || die "this script knows Debian only, and this is $id" \
        "Install by hand what scripts/lib/host.sh lists; README.md says what the cache must hold."
    [ "$(uname -m)" = x86_64 ] || die "cove's guests are x86_64, and this machine is $(uname -m)"
}

# apt, alone: two runs of this script wait for each other and for others' apt.
apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive flock /run/lock/cove-setup.lock \
        apt-get -o DPkg::Lock::Timeout=600 "$@"
}

installed_version() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null; }
candidate_version() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: //p'; }
# Whether Debian version $1 is at least $2; an epoch counts for nothing here.
at_least() { dpkg --compare-versions "${1#*:}" ge "$2"; }

prepare_packages() {
    local package proof missing=() outdated=()
    while read -r package proof; do
        [ -n "$package" ] || continue
        case $proof in
        /*) [ -e "$proof" ] || missing+=("$package") ;;
        *) have "$proof" || missing+=("$package") ;;
        esac
    done <<<"$HOST_PACKAGES"
    if [ -z "$(ldconfig -p | grep -m 1 'libarchive\.so\.13')" ]; then
        missing+=("$(known_package $TAR_LIBRARY_PACKAGES)")
    fi
    outdated_packages
    if [ ${#missing[@]} -eq 0 ] && [ ${#outdated[@]} -eq 0 ]; then
        say "already there: all of them"
        return
    fi
    say "missing or too old: ${missing[*]} ${outdated[*]}"
    apt_get update -qq
    install_plain
    install_from_backports
    outdated=()
    outdated_packages
    [ ${#outdated[@]} -eq 0 ] || die "still too old after installing: ${outdated[*]}"
}

# The first of the given packages that apt knows; the last when it knows none yet.
known_package() {
    local package
    for package in "$@"; do
        if [ -n "$(apt-cache show "$package" 2>/dev/null | head -n 1)" ]; then break; fi
    done
    echo "$package"
}

# Adds to `outdated` what is there in a version that does not do.
outdated_packages() {
    if have mke2fs && ! at_least "$(installed_version e2fsprogs)" "$MINIMUM_E2FSPROGS"; then
        outdated+=(e2fsprogs)
    fi
    if have qemu-system-x86_64 && ! at_least "$(installed_version qemu-system-x86)" "$MINIMUM_QEMU"; then
        outdated+=(qemu-system-x86)
    fi
}

# Whether the suite itself has a good version of a package.
suite_has() {
    case $1 in
    e2fsprogs) at_least "$(candidate_version e2fsprogs)" "$MINIMUM_E2FSPROGS" ;;
    qemu-system-x86 | seabios) at_least "$(candidate_version qemu-system-x86)" "$MINIMUM_QEMU" ;;
    *) true ;;
    esac
}

# What comes from the suite as it is. The rest is left in `backports`.
install_plain() {
    local package plain=()
    backports=()
    for package in "${missing[@]}" "${outdated[@]}"; do
        if suite_has "$package"; then plain+=("$package"); else backports+=("$package"); fi
    done
    if [ ${#plain[@]} -gt 0 ]; then
        apt_get install -y -qq --no-install-recommends "${plain[@]}"
    fi
}

install_from_backports() {
    local package wanted=() related=()
    [ ${#backports[@]} -gt 0 ] || return 0
    say "$SUITE has these in versions that are too old; $SUITE-backports has better: ${backports[*]}"
    if [ -z "$(apt-get indextargets --format '$(CODENAME)' "Codename: $SUITE-backports" | head -n 1)" ]; then
        say "adding /etc/apt/sources.list.d/cove-backports.list (apt takes nothing from it unasked)"
        echo "deb $(backports_mirror) $SUITE-backports main" |
            as_root tee /etc/apt/sources.list.d/cove-backports.list >/dev/null
        apt_get update -qq
    fi
    # Packages of one source must have one version: those that are there move along, or they would
    # conflict with the new ones (an older qemu-utils is the usual case).
    for package in "${backports[@]}"; do
        wanted+=("$package")
        case $package in
        qemu-system-x86) wanted+=(qemu-system-common qemu-system-data seabios) related=('qemu-*') ;;
        e2fsprogs) wanted+=(libext2fs2 libcom-err2 libss2 logsave) related=('e2fsprogs-*' fuse2fs e2fslibs libext2fs-dev comerr-dev ss-dev) ;;
        *) related=() ;;
        esac
        for package in $(installed_like "${related[@]}"); do
            if in_backports "$package"; then wanted+=("$package"); fi
        done
    done
    mapfile -t wanted < <(printf '%s\n' "${wanted[@]}" | sort -u)
    apt_get install -y -qq --no-install-recommends -t "$SUITE-backports" "${wanted[@]}"
}

# The installed packages that match any of the patterns.
installed_like() {
    [ $# -gt 0 ] || return 0
    # It fails when one pattern matches nothing, which is no failure here.
    { dpkg-query -W -f '${Package} ${Status}\n' "$@" 2>/dev/null || true; } | sed -n 's/ install ok installed$//p'
}

in_backports() { [[ $(apt-cache madison "$1" 2>/dev/null) == *"$SUITE-backports/"* ]]; }

# Where apt of this host gets a suite from, so that a local mirror is used here as well; or nothing.
mirror_of() {
    apt-get indextargets --format '$(REPO_URI)' "Codename: $1" "Component: main" 'Created-By: Packages' 2>/dev/null |
        grep -m 1 '^https\?:' | sed 's:/*$::' || true
}

# Where this host gets its suite from has the backports as well.
backports_mirror() {
    local mirror
    mirror=$(mirror_of "$SUITE")
    echo "${mirror:-http://deb.debian.org/debian}"
}

prepare_rights() {
    prepare_tun
    prepare_user_namespaces
}

# Each guest's network device lives in a namespace of its own, made without root.
prepare_tun() {
    if ! [ -e /dev/net/tun ]; then
        say "/dev/net/tun is missing, guests get no network (--net none works): loading its module"
        as_root modprobe tun || say "the kernel has no module tun; cove doctor will say so as well"
    elif [ "$(stat -c %a /dev/net/tun)" != 666 ]; then
        say "/dev/net/tun is closed to users (Debian's own setting is 0666): opening it"
        as_root chmod 0666 /dev/net/tun
    else
        say "/dev/net/tun is open to users"
    fi
}

prepare_user_namespaces() {
    local switch=/proc/sys/kernel/unprivileged_userns_clone
    if [ -e "$switch" ] && [ "$(cat $switch)" != 1 ]; then
        say "user namespaces are off for users: switching them on until the next boot"
        as_root sysctl -q kernel.unprivileged_userns_clone=1
    fi
    if [ "$(cat /proc/sys/user/max_user_namespaces)" -eq 0 ]; then
        say "user.max_user_namespaces is 0: raising it until the next boot"
        as_root sysctl -q user.max_user_namespaces=15000
    fi
    if unshare --user --map-root-user true 2>/dev/null; then
        say "user namespaces work"
    else
        say "user namespaces do not work here: guests can be started with --net none only"
    fi
    [ "$(id -u)" -eq 0 ] || prepare_subordinate_ids
}

# mmdebstrap as an ordinary user needs ids for the owners of the image's files.
prepare_subordinate_ids() {
    local file user start
    user=$(id -un)
    for file in /etc/subuid /etc/subgid; do
        if ! grep -q "^\($user\|$(id -u)\):" "$file" 2>/dev/null; then
            # Above every range that is there.
            start=$(awk -F: '{ end = $2 + $3; if (end > top) top = end } END { print (top < 100000) ? 100000 : top }' \
                "$file" 2>/dev/null || echo 100000)
            say "$user has no range in $file: adding one"
            echo "$user:$start:65536" | as_root tee -a "$file" >/dev/null
        fi
    done
    say "subordinate ids of $user are there"
}
