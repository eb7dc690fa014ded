#!/usr/bin/env bash
# client-image.sh DRIVER DIRECTORY: makes the root filesystem of the test client's image from what
# chaos-tests/clients/java/build.sh put into DRIVER: the driver with the official Java client, a Java
# runtime of only the modules it needs, and busybox, to look at what the client wrote.
#
# Start the driver with: driver produce|consume --flag value ...
set -euo pipefail

if [ $# -ne 2 ] || [ ! -e "$1/raftmq-java-driver.jar" ]; then
    sed -n '2,6p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
driver=$1 root=$2
runtime=usr/lib/jvm
machine=$(uname -m)

rm -rf "$root"
mkdir -p "$root"/{usr/bin,"${runtime%/*}",etc,tmp,logs,driver}
root=$(realpath "$root")
ln -s usr/bin "$root/bin"
chmod 1777 "$root/tmp"

# What jdeps finds, and jdk.crypto.ec for the JDK's own TLS.
modules=java.base,java.logging,java.management,java.naming,java.sql,java.xml,jdk.crypto.ec,jdk.unsupported
jlink --add-modules "$modules" --strip-java-debug-attributes --no-header-files --no-man-pages \
    --output "$root/$runtime"
cp -r "$driver/raftmq-java-driver.jar" "$driver/lib" "$root/driver/"

# The client's jar brings libraries for epoll and TLS; it unpacks them to /tmp when it starts. Where
# one of them can not be loaded it makes do with the JDK's, and is not the client that people have.
native=$(mktemp -d)
trap 'rm -rf "$native"' EXIT
for jar in "$root"/driver/lib/*.jar; do (cd "$native" && jar --extract --file "$jar" META-INF/native); done

# The runtime's libraries find each other when they are loaded; ldd has to be told where they are.
LD_LIBRARY_PATH="$root/$runtime/lib/server:$root/$runtime/lib" "$here/libraries.sh" "$root" \
    "$root/$runtime/bin/java" "$root/$runtime"/lib/{,server/}*.so "$native"/META-INF/native/*"$machine"*.so

busybox=$(command -v busybox)
install -m 755 "$busybox" "$root/usr/bin/busybox"
for applet in sh cat kill killall sleep tail; do ln -s busybox "$root/usr/bin/$applet"; done
if ldd "$busybox" > /dev/null 2>&1; then "$here/libraries.sh" "$root" "$root/usr/bin/busybox"; fi

# Small: two of them run beside the brokers they test. exec: signals reach the driver.
cat > "$root/usr/bin/driver" <<SH
#!/bin/sh
exec /$runtime/bin/java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \\
    -cp '/driver/raftmq-java-driver.jar:/driver/lib/*' raftmq.driver.Main "\$@"
SH
chmod 755 "$root/usr/bin/driver"

# The resolver of the C library reads it; "files" and "dns" are built into it.
echo "hosts: files dns" > "$root/etc/nsswitch.conf"

du -sh "$root" | sed 's/^/client image: /'
