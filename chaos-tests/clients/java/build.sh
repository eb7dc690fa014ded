#!/bin/sh
# Builds the driver into $DRIVER_OUT (default: target beside this script).
# Does nothing when no source is newer than the last build.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${DRIVER_OUT:-$here/target}
mkdir -p "$out"
out=$(cd "$out" && pwd)
jar=$out/raftmq-java-driver.jar

# Tests that start together may all build first.
exec 9>"$out/.build.lock"
flock 9

if [ -e "$jar" ] && [ -z "$(find "$here/src" "$here/pom.xml" -newer "$jar" | head -n 1)" ]; then
    exit 0
fi
MAVEN_OPTS="${MAVEN_OPTS:--Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1}"
export MAVEN_OPTS
nice mvn --batch-mode --quiet -Dstyle.color=never --file "$here/pom.xml" \
    -Ddriver.out="$out" -Dmaven.test.skip=true package >&2
