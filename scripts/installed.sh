# What "make install" puts where; sourced by install and uninstall.

# PREFIX and DESTDIR as usual: only without DESTDIR is it about this machine.
PREFIX=${PREFIX:-/usr}
PREFIX=${PREFIX%/}
DESTDIR=${DESTDIR:-}
SYS=/sys

# The program, its other names, and those by which the tools of version 9 look for the tools of the
# version that the kernel speaks. These belong to drbd-utils where that is installed.
TOOLS=("$PREFIX"/sbin/{drbdadm,drbdsetup,drbdmeta} "$PREFIX"/lib/drbd/{drbdadm,drbdsetup}-84)
HOOK=/etc/kernel/postinst.d/drbd-rs
OPTIONS=/etc/modprobe.d/drbd-rs.conf

# is_ours FILE: whether a module, a program or what a link leads to was built from these sources.
is_ours() { grep -qsa drbd-rs "$1"; }

# place MODE FILE PLACE: who looks meanwhile finds the old file or the new one, both whole.
place() {
    install -D -m "$1" "$2" "$3.new"
    mv -fT "$3.new" "$3"
}

# place_link TARGET PLACE: likewise.
place_link() {
    mkdir -p "$(dirname "$2")"
    ln -sfn "$1" "$2.new"
    mv -fT "$2.new" "$2"
}

# uses_dpkg: whether the tools' places may belong to a package of this machine.
uses_dpkg() {
    [ -z "$DESTDIR" ] && [ "$PREFIX" = /usr ] && command -v dpkg-divert >/dev/null
}

# names TOOL: those by which dpkg may know it. Where /sbin is a link, Debian 12 says /sbin/drbdadm
# and Debian 13 /usr/sbin/drbdadm.
names() {
    local short=${1#/usr/}
    if [ "/${short%%/*}" -ef "/usr/${short%%/*}" ]; then printf '/%s\n' "$short"; fi
    printf '%s\n' "$1"
}

# aside NAME: where dpkg is to keep the package's file. Each name has a place of its own: dpkg
# removes what has left a package after it has unpacked what is new, also if both are one place.
aside() {
    case $1 in
    /usr/*) printf '%s\n' "$1.distrib" ;;
    *) printf '%s\n' "$1.distrib-aliased" ;;
    esac
}

is_diverted() { [ "$(dpkg-divert --truename "$1")" = "$(aside "$1")" ]; }

# is_packaged NAME: whether drbd-utils has the file under that very name.
is_packaged() { grep -qxF "$1" <(dpkg -L drbd-utils 2>/dev/null); }

# divert TOOL: from now on the package's file goes aside. It also stays where it is until ours
# takes the place.
divert() {
    local name
    for name in $(names "$1"); do
        if is_diverted "$name"; then continue; fi
        if is_packaged "$name" && [ -e "$name" ] && ! is_ours "$name"; then
            cp -a "$name" "$(aside "$name")"
        fi
        dpkg-divert --quiet --local --no-rename --divert "$(aside "$name")" --add "$name"
    done
}

# end_diversion TOOL: the package's file takes its place again.
end_diversion() {
    local name
    for name in $(names "$1"); do
        if ! is_diverted "$name"; then continue; fi
        if [ -e "$(aside "$name")" ]; then mv -fT "$(aside "$name")" "$name"; fi
        dpkg-divert --quiet --local --no-rename --remove "$name"
    done
}

# is_lost TOOL: whether a file of drbd-utils is nowhere, as an earlier install replaced it.
is_lost() {
    local name
    for name in $(names "$1"); do
        if is_packaged "$name" && [ ! -e "$(dpkg-divert --truename "$name")" ]; then return; fi
    done
    return 1
}

# say_what_is_lost: what uninstall or the next upgrade would miss.
say_what_is_lost() {
    local tool
    for tool in "${TOOLS[@]}"; do
        if uses_dpkg && is_lost "$tool"; then
            say "the files of drbd-utils were replaced by an earlier install; this brings them" \
                "back: apt-get install --reinstall drbd-utils"
            return
        fi
    done
}

# signatures_are_enforced: whether this machine loads only signed modules into the kernel whose
# configuration is $CONFIG.
signatures_are_enforced() {
    local lockdown=$SYS/kernel/security/lockdown
    [ "$(setting CONFIG_MODULE_SIG)" = y ] || return 1
    [ "$(setting CONFIG_MODULE_SIG_FORCE)" = y ] ||
        [ "$(cat "$SYS/module/module/parameters/sig_enforce" 2>/dev/null)" = Y ] ||
        { [ -e "$lockdown" ] && ! grep -qF '[none]' "$lockdown"; }
}

hexadecimal() { od -An -v -tx1 "$1" | tr -d ' \n'; }

# another_is_loaded MODULE: whether the loaded driver is another build. No version tells builds
# apart, only the note of the linker.
another_is_loaded() {
    local note=$SYS/module/drbd/notes/.note.gnu.build-id
    [ -d "$SYS/module/drbd" ] || return 1
    [ ! -e "$note" ] || [ "$(hexadecimal "$1" | grep -cF "$(hexadecimal "$note")")" = 0 ]
}
