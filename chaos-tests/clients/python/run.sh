#!/usr/bin/env bash
# Runs the driver with the interpreter that build.sh set up.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${DRIVER_OUT:?set DRIVER_OUT to the directory that build.sh filled}

# The client logs to $HOME/logs and has no setting for it.
export HOME=$out
export PYTHONPYCACHEPREFIX=$out/pycache
exec "$out/venv/bin/python" "$here/driver" "$@"
