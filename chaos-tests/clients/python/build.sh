#!/usr/bin/env bash
# Installs the pinned packages into a virtual environment under DRIVER_OUT.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${DRIVER_OUT:?set DRIVER_OUT to the directory to build into}
venv=$out/venv
installed=$venv/installed-requirements.txt

if cmp -s "$here/requirements.txt" "$installed"; then
    exit 0
fi
rm -rf "$venv"
mkdir -p "$out"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --no-deps --requirement "$here/requirements.txt"
cp "$here/requirements.txt" "$installed"
