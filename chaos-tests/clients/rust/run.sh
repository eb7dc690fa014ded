#!/usr/bin/env bash
# Runs the driver that build.sh compiled.
set -euo pipefail

exec "${DRIVER_OUT:?set DRIVER_OUT to the directory that build.sh filled}/debug/raftmq-driver-rust" "$@"
