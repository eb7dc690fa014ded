#!/usr/bin/env bash
# Compiles the driver with the locked packages into DRIVER_OUT.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export CARGO_TARGET_DIR=${DRIVER_OUT:?set DRIVER_OUT to the directory to build into}

cargo build --quiet --locked --manifest-path "$here/Cargo.toml"
