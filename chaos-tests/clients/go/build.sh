#!/bin/sh
# Builds the driver into $DRIVER_OUT (default: target beside this script).
# Go's own cache makes a repeated build quick.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${DRIVER_OUT:-$here/target}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here"
nice go build -trimpath -o "$out/raftmq-go-driver" .
