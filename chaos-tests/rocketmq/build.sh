#!/bin/sh
# Fetches the servers of Apache RocketMQ into $SERVERS_OUT/lib (default: target beside this script).
# Does nothing when they are there and pom.xml is not newer.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${SERVERS_OUT:-$here/target}
mkdir -p "$out"
out=$(cd "$out" && pwd)

exec 9>"$out/.build.lock"
flock 9

if [ -e "$out/complete" ] && [ ! "$here/pom.xml" -nt "$out/complete" ]; then
    exit 0
fi
rm -rf "$out/complete" "$out/lib"
MAVEN_OPTS="${MAVEN_OPTS:--Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1}"
export MAVEN_OPTS
nice mvn --batch-mode --quiet -Dstyle.color=never --file "$here/pom.xml" \
    -Dservers.out="$out" package >&2
touch "$out/complete"
