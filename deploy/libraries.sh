#!/usr/bin/env bash
# libraries.sh ROOT PROGRAM...: copies the shared libraries that the programs (or libraries) load from
# this machine into the root filesystem ROOT. Those that are below ROOT already stay as they are.
set -euo pipefail

if [ $# -lt 2 ] || [ ! -d "$1" ]; then
    sed -n '2,3p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
root=$(realpath "$1")
shift

# Debian's merged layout: the loader is named /lib64/ld-linux-x86-64.so.2 in every program.
mkdir -p "$root"/usr/{lib,lib64}
for directory in lib lib64; do [ -e "$root/$directory" ] || ln -s "usr/$directory" "$root/$directory"; done

# "name => /path (address)", and the loader as "/path (address)".
for program in "$@"; do
    if ldd "$program" | grep 'not found' >&2; then
        echo "libraries.sh: $program lacks these libraries" >&2
        exit 1
    fi
    ldd "$program" | sed -n 's#^.* => \(/[^ ]*\) .*#\1#p; s#^[[:space:]]*\(/[^ ]*\) .*#\1#p'
done | sort -u | while read -r library; do
    case $library in "$root"/*) continue ;; esac
    # At the same path, without the link /lib: the loader looks in Debian's directories.
    to=$root/usr/${library#/}
    to=${to/\/usr\/usr\//\/usr\/}
    mkdir -p "$(dirname "$to")"
    install -m 755 "$(readlink -f "$library")" "$to"
done
