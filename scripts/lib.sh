# Shared by the scripts in this folder; sourced, never run.
#
# Everything that takes long to make lives outside the checkout, in $CACHE, under a name that
# ends in a hash of what it was made from. A product is made in a folder beside its place and
# renamed when it is complete, so an interrupted run leaves nothing that looks finished.

set -euo pipefail

SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CHECKOUT=$(cd "$SCRIPTS/.." && pwd)
# "su" alone leaves root without these, where mke2fs, depmod and chroot are.
export PATH=$PATH:/usr/sbin:/sbin
CACHE=${DRBD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/drbd-rs}

# The release whose compilers made the kernels that we build for, and where those kernels are.
SUITE=trixie
BACKPORTS=trixie-backports

PROGRAM=$(basename "$0")

say() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }
die() { say "$*"; exit 1; }

# setting NAME: the value of a symbol in a kernel's configuration, $CONFIG, without quotes.
setting() { sed -n "s/^$1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "$CONFIG"; }

# content_key TEXT...: ten hex digits that change when any argument changes.
content_key() { printf '%s\0' "$@" | sha256sum | cut -c1-10; }

# host_is_new_enough: whether the host has all of cargo's tools, as new as Cargo.toml wants them,
# and a linker.
host_is_new_enough() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$CHECKOUT/Cargo.toml")
    found=$(rustc --version 2>/dev/null | cut -d' ' -f2) || return 1
    [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -1)" = "$wanted" ] &&
        cargo --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1 &&
        cargo clippy --version >/dev/null 2>&1 && command -v cc >/dev/null
}

# need_plain_paths: kbuild takes no others.
need_plain_paths() {
    case $CHECKOUT$CACHE in
    *[[:space:]:]*) die "no blank or colon may be in $CHECKOUT or $CACHE (see DRBD_CACHE): kernels \
and modules can not be built there" ;;
    esac
}

# need_root: the test bed mounts and changes roots.
need_root() {
    [ "$(id -u)" = 0 ] || die "this must run as root (it mounts and uses chroot); try sudo make"
}

# need_packages COMMAND=PACKAGE...: installs the packages whose command is missing.
need_packages() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || die "please install: ${missing[*]}"
    need_root
    say "installing ${missing[*]}"
    local log
    log=$(apt-get -qq update 2>&1 </dev/null || true
        DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
            -o DPkg::Lock::Timeout=300 install "${missing[@]}" 2>&1 </dev/null) ||
        die "could not install ${missing[*]}:
$log"
}

# debian_mirrors: the addresses of Debian archives in this machine's own apt configuration.
debian_mirrors() {
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian|Debian|//p'
}

# debian_mirror: the first of them that is on the network, else a folder; never a disc.
debian_mirror() {
    local mirror on_network='/^\(cdrom\|file\|copy\):/!{p;q}'
    mirror=$(sed -n "$on_network" <<<"$(debian_mirrors)")
    if [ -z "$mirror" ]; then
        apt-get -qq update >&2 || true
        mirror=$(sed -n "$on_network" <<<"$(debian_mirrors)")
    fi
    [ -n "$mirror" ] || mirror=$(sed -n '/^cdrom:/!{p;q}' <<<"$(debian_mirrors)")
    [ -n "$mirror" ] || die "apt knows no Debian archive; add one to /etc/apt/sources.list"
    printf '%s\n' "$mirror"
}

# apt_proxies: those of this machine's own apt, as options for mmdebstrap, whose apt does not read
# that configuration.
apt_proxies() {
    apt-config dump | sed -n 's/^Acquire::https\?::Proxy\(::[^ ]*\)\? "..*";$/--aptopt=&/p'
}

# keyring: the keys that sign the archive.
keyring() {
    local file=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$file" ] || need_packages no-such-command=debian-archive-keyring
    printf '%s\n' "$file"
}

# sources SUITE...: lines for sources.list.
sources() {
    local mirror keys suite
    mirror=$(debian_mirror)
    keys=$(keyring)
    for suite in "$@"; do
        printf 'deb [signed-by=%s] %s %s main\n' "$keys" "$mirror" "$suite"
    done
}

# suite_apt COMMAND...: a private apt that knows $SUITE and its backports, whatever the host runs.
# Its state is in $CACHE/apt; the host's own proxies and mirrors apply, its packages do not.
suite_apt() {
    local dir=$CACHE/apt command=$1
    shift
    mkdir -p "$dir/lists/partial" "$dir/archives/partial" "$dir/empty"
    [ -e "$dir/status" ] || : >"$dir/status"
    "$command" -o Dir::State::lists="$dir/lists" -o Dir::State::status="$dir/status" \
        -o Dir::Cache="$dir" -o Dir::Cache::archives="$dir/archives" \
        -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts="$dir/empty" \
        -o Dir::Etc::preferences="$dir/none" -o Dir::Etc::preferencesparts="$dir/empty" \
        -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Sandbox::User=root \
        -o APT::Default-Release="$BACKPORTS" "$@"
}

# suite_apt_update [MAX_AGE_MIN]: refreshes the lists, at most once an hour.
suite_apt_update() {
    local stamp=$CACHE/apt/updated
    mkdir -p "$CACHE/apt"
    if [ -n "$(find "$stamp" -mmin "-${1:-60}" 2>/dev/null)" ]; then return; fi
    sources "$SUITE" "$BACKPORTS" >"$CACHE/apt/sources.list"
    suite_apt apt-get -qq -o APT::Update::Error-Mode=any update >&2 || die "cannot read the package lists of $BACKPORTS"
    touch "$stamp"
}

# with_lock NAME: holds a lock of that name until the process ends; waits for another holder.
with_lock() {
    mkdir -p "$CACHE"
    exec {LOCK_FD}>"$CACHE/.lock-$1"
    if ! flock -n "$LOCK_FD"; then
        say "waiting for another run that makes $1"
        flock "$LOCK_FD"
    fi
}

# scratch_for PLACE: a new folder beside PLACE, removed on exit unless it was renamed.
scratch_for() {
    mkdir -p "$(dirname "$1")"
    SCRATCH=$(mktemp -d "$1.part.XXXXXX")
    trap 'status=$?; discard "$SCRATCH"; exit $status' EXIT
    trap 'exit 130' INT TERM HUP
}

# discard FOLDER: removes it, never following a mount into the rest of the machine.
discard() {
    [ -e "$1" ] || return 0
    if grep -q " $1/" /proc/self/mountinfo; then
        say "not removing $1: something is mounted below it"
        return 0
    fi
    rm -rf --one-file-system "$1"
}
