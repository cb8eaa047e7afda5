#!/bin/sh
# Installs Sextant from an unpacked release archive. Reads nothing from the network.
#   ./install.sh                      to /usr/local (as root)
#   ./install.sh --prefix ~/.local    for one user, without root
#   ./install.sh --service            and, as root, a systemd service that watches a camera
#   ./install.sh --uninstall [--prefix DIR]
set -eu

fail() {
    echo "install.sh: $1" >&2
    [ -z "${2:-}" ] || echo "  type: $2" >&2
    exit 1
}

prefix=/usr/local
remove=no
service=no
unit=/etc/systemd/system/sextant-watch.service
settings=/etc/sextant/watch.conf
while [ $# -gt 0 ]; do
    case $1 in
        --prefix)
            [ $# -ge 2 ] || fail "--prefix needs a folder" "./install.sh --prefix $HOME/.local"
            prefix=$2
            shift
            ;;
        --prefix=*) prefix=${1#--prefix=} ;;
        --service) service=yes ;;
        --uninstall) remove=yes ;;
        -h | --help)
            sed -n 's/^# \{0,1\}//; 2,6p' "$0"
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
    if [ -e "$unit" ] && grep -q "^ExecStart=$program " "$unit"; then
        [ -w "$unit" ] || fail "may not remove $unit" "sudo ./install.sh --uninstall --prefix $prefix"
        systemctl disable --now sextant-watch 2>/dev/null || true
        rm -f "$unit"
        systemctl daemon-reload 2>/dev/null || true
        echo "removed $unit; $settings and /var/lib/sextant are yours and stay"
    fi
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

if [ "$service" = yes ]; then
    [ -d /etc/systemd/system ] || fail "this system has no systemd, so there is no service to install" "./install.sh"
    [ "$(id -u)" = 0 ] || fail "only root may install a service" "sudo ./install.sh --service"
    for file in sextant-watch.service watch.conf; do
        [ -f "$file" ] || fail "there is no '$file' in this archive"
    done
fi
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
if [ "$service" = yes ]; then
    sed "s#^ExecStart=/usr/bin/sextant #ExecStart=$program #; s#/usr/share/doc/sextant#$texts#" sextant-watch.service >"$unit.new"
    mv -f "$unit.new" "$unit"
    mkdir -p /etc/sextant
    # What was set stays: a new version never overwrites it.
    [ -e "$settings" ] || cp watch.conf "$settings"
    systemctl daemon-reload 2>/dev/null || true
    echo "installed $unit"
    echo "next: say in $settings what to watch, then type: systemctl enable --now sextant-watch"
fi
case :$PATH: in
    *:"$prefix/bin":*) ;;
    *) echo "note: $prefix/bin is not in PATH; add to ~/.profile: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
