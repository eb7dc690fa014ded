#!/bin/sh
# Runs the built driver in place of this shell, so that signals reach the driver.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${DRIVER_OUT:-$here/target}
exec "$out/raftmq-go-driver" "$@"
