#!/usr/bin/env bash
# image.sh BINARY DIRECTORY: makes the root filesystem of the image: the raftmq binary, the shared
# libraries it needs from this machine, a shell for hooks and kubectl exec, and a user that is not root.
#
# The image runs on what the binary was built on, so libraries always match. deploy/Dockerfile makes
# the same where images are built by a builder. Start it with: entry point /usr/bin/raftmq, user 10001.
set -euo pipefail

if [ $# -ne 2 ] || [ ! -x "$1" ]; then
    sed -n '2,6p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$1 root=$2
uid=10001

# A file left over from an earlier binary would stay in the image unnoticed.
rm -rf "$root"
mkdir -p "$root"/{usr/bin,etc,tmp,data}
ln -s usr/bin "$root/bin"
chmod 1777 "$root/tmp"

install -m 755 "$binary" "$root/usr/bin/raftmq"
# Symbols stay: a panic's backtrace needs them. Debug information is most of the size.
if command -v strip > /dev/null; then strip --strip-debug "$root/usr/bin/raftmq"; fi
install -m 755 "$(readlink -f "$(command -v dash || command -v sh)")" "$root/usr/bin/sh"

"$here/libraries.sh" "$root" "$root/usr/bin/raftmq" "$root/usr/bin/sh"

# The resolver of the C library reads these; "files" and "dns" are built into it. There are no CA
# certificates, because nothing here calls out with TLS.
echo "hosts: files dns" > "$root/etc/nsswitch.conf"
printf 'root:x:0:0:root:/:/usr/sbin/nologin\nraftmq:x:%s:%s:raftmq:/data:/bin/sh\n' $uid $uid \
    > "$root/etc/passwd"
printf 'root:x:0:\nraftmq:x:%s:\n' $uid > "$root/etc/group"
if [ "$(id -u)" -eq 0 ]; then chown $uid:$uid "$root/data"; fi

# Proves that no library is missing; only root can change the root directory.
if [ "$(id -u)" -eq 0 ]; then chroot --userspec=$uid:$uid "$root" /usr/bin/raftmq --version; fi
du -sh "$root" | sed 's/^/image: /'
