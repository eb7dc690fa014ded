#!/usr/bin/env bash
# Runs the copy of the driver that build.sh made.
set -euo pipefail

out=${DRIVER_OUT:?set DRIVER_OUT to the directory that build.sh filled}

# The client logs to $HOME/logs, in part without a setting for it.
export HOME=$out
exec node "$out/app/src/main.js" "$@"
