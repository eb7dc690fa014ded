#!/usr/bin/env bash
# Checks the manifests against the schemas of the oldest Kubernetes they support and of newer ones, and
# those for Chaos Mesh against our own schema.
# Keeps its tool in a cache folder, so that only the first run installs something.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${XDG_CACHE_HOME:-$HOME/.cache}/raftmq/kubernetes-validate

if ! cmp -s "$here/requirements.txt" "$venv/installed"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" --quiet --disable-pip-version-check install -r "$here/requirements.txt"
    # Last: an installation that was interrupted is made anew.
    cp "$here/requirements.txt" "$venv/installed"
fi

for version in 1.28.0 1.34.1 1.37.0; do
    # Strict: a misspelt key is an error, which the server would ignore.
    if ! said=$("$venv/bin/kubernetes-validate" --strict -k "$version" "$here"/kubernetes/*.yaml 2>&1)
    then
        echo "$said" >&2
        exit 1
    fi
    echo "manifests are valid for Kubernetes $version: $(grep -c passed <<< "$said" || true) objects"
done

# Comes with the tool above: jsonschema and yaml.
"$venv/bin/python" "$here/chaos_check.py" "$here"/chaos/*.yaml

# A check that passes everything is none.
wrong=$(mktemp)
trap 'rm -f "$wrong"' EXIT
for mistake in s/containerNames:/containerName:/ 's/- rest-1$/- rest-0/' \
    's/component: broker/component: brokers/' 's/: container-kill/: container-kil/'; do
    sed "$mistake" "$here/chaos/kill-leader.yaml" > "$wrong"
    if "$venv/bin/python" "$here/chaos_check.py" "$wrong" > /dev/null 2>&1; then
        echo "the check of manifests for Chaos Mesh passes a file with the mistake $mistake" >&2
        exit 1
    fi
done

# The scripts that need root and a cluster run elsewhere; here at least they parse.
for script in "$here"/*.sh; do bash -n "$script"; done
