#!/bin/sh
# Installs Sextant from an unpacked release archive. Reads nothing from the network.
#   ./install.sh                      to /usr/local (as root)
#   ./install.sh --prefix ~/.local    for one user, without root
#   ./install.sh --uninstall [--prefix DIR]
set -eu

fail() {
    echo "install.sh: $1" >&2
    [ -z "${2:-}" ] || echo "  type: $2" >&2
    exit 1
}

prefix=/usr/local
remove=no
while [ $# -gt 0 ]; do
    case $1 in
        --prefix)
            [ $# -ge 2 ] || fail "--prefix needs a folder" "./install.sh --prefix $HOME/.local"
            prefix=$2
            shift
            ;;
        --prefix=*) prefix=${1#--prefix=} ;;
        --uninstall) remove=yes ;;
        -h | --help)
            sed -n 's/^# \{0,1\}//; 2,5p' "$0"
            exit 0
            ;;
        *) fail "unknown option '$1'" "./install.sh --help" ;;
    esac
    shift
done
case $prefix in
    /*) ;;
    *) prefix=$PWD/$prefix ;;
esac
program=$prefix/bin/sextant
texts=$prefix/share/doc/sextant

if [ "$remove" = yes ]; then
    [ -e "$program" ] || fail "there is no $program to remove"
    rm -f "$program" 2>/dev/null || fail "may not remove $program" "sudo ./install.sh --uninstall --prefix $prefix"
    rm -rf "$texts"
    echo "removed $program"
    exit 0
fi

cd "$(dirname "$0")"
for file in sextant SHA256SUMS; do
    [ -f "$file" ] || fail "there is no '$file' beside this script; it works from inside an unpacked release archive" \
        "tar xzf sextant-*.tar.gz && cd sextant-*/ && ./install.sh"
done

# Whole and unchanged? Every file of the archive is in the list.
damaged=$(sha256sum -c SHA256SUMS 2>/dev/null | sed -n 's/: *FAILED.*//p') || true
[ -z "$damaged" ] || fail "damaged since it was packed: $(echo "$damaged" | tr '\n' ' ')" "download the archive again"
sha256sum -c SHA256SUMS >/dev/null 2>&1 || fail "SHA256SUMS itself is damaged" "download the archive again"

# For this processor? The 19th byte of an ELF file names it.
case $(od -An -tu1 -j18 -N1 sextant | tr -d ' ') in
    183) built_for=aarch64 ;;
    62) built_for=x86_64 ;;
    *) built_for=unknown ;;
esac
machine=$(uname -m)
[ "$built_for" = "$machine" ] || fail "this archive is for $built_for and this machine is $machine (a 32-bit system cannot run it)"
version=$(./sextant --version 2>&1 | head -n 1) || version=
case $version in
    sextant*) ;;
    *) fail "the program does not start here: ${version:-no output}" "take the musl archive: it needs nothing of the system" ;;
esac

if ! mkdir -p "$prefix/bin" "$texts" 2>/dev/null || [ ! -w "$prefix/bin" ]; then
    fail "may not write to $prefix" "sudo ./install.sh   or   ./install.sh --prefix $HOME/.local"
fi
# Beside the old one first, then in its place: a program that is running is not disturbed.
cp sextant "$program.new"
chmod 755 "$program.new"
mv -f "$program.new" "$program"
for file in README.md CHANGELOG.md LICENSE* NOTICE* sbom.cdx.json licences; do
    [ ! -e "$file" ] || cp -R "$file" "$texts/"
done
echo "installed $program ($version)"
case :$PATH: in
    *:"$prefix/bin":*) ;;
    *) echo "note: $prefix/bin is not in PATH; add to ~/.profile: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
