#!/bin/sh
# Runs the built driver in place of this shell, so that signals reach the driver.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${DRIVER_OUT:-$here/target}
# Small heap, one collector thread, quick compiler: many drivers share two cores.
exec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -cp "$out/raftmq-java-driver.jar:$out/lib/*" raftmq.driver.Main "$@"
