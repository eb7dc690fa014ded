#!/usr/bin/env bash
# Copies the driver to DRIVER_OUT and installs the locked packages beside it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${DRIVER_OUT:?set DRIVER_OUT to the directory to build into}
app=$out/app
installed=$app/installed-lock.json

mkdir -p "$app"
rm -rf "$app/src"
cp -R "$here/src" "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$app/"

if cmp -s "$here/package-lock.json" "$installed"; then
    exit 0
fi
# No package needs its install script: what is compiled comes ready-made.
(cd "$app" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
cp "$here/package-lock.json" "$installed"
