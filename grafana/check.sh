#!/usr/bin/env bash
# check.sh: tries every query of the dashboard and of the alerts against a real Prometheus that scrapes
# a real cluster with traffic on it. Fails on a query that Prometheus refuses, on a metric that has no
# series, and on a panel that stays empty; queries.py lists what needs a fault to appear.
#
#   RAFTMQ=     a raftmq binary that is built already (default: a debug build, made when missing)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(dirname "$here")
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/raftmq/target}
# Away from the ports of make run; dev counts all its ports from this one.
port=${PORT:-19481}
prometheus_port=$((port + 9))
nodes=(127.0.0.1:$((port + 103)) 127.0.0.1:$((port + 203)) 127.0.0.1:$((port + 303)))
export RAFTMQ_ADMIN=127.0.0.1:$((port + 102)),127.0.0.1:$((port + 202)),127.0.0.1:$((port + 302))
export RAFTMQ_ENDPOINT=127.0.0.1:$port

if ! command -v promtool > /dev/null; then
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends prometheus > /dev/null
fi
promtool check rules "$here/alerts.yml" > /dev/null
promtool test rules "$here/alerts_test.yml" > /dev/null || { promtool test rules "$here/alerts_test.yml"; exit 1; }
python3 "$here/queries.py" sources "$repository"

raftmq=${RAFTMQ:-$CARGO_TARGET_DIR/debug/raftmq}
if [ -z "${RAFTMQ:-}" ]; then
    nice cargo build --quiet --locked --manifest-path "$repository/Cargo.toml" -p raftmq
fi

work=$(mktemp -d)
pids=()
finish() {
    local code=$?
    if [ ${#pids[@]} -gt 0 ]; then
        kill "${pids[@]}" 2> /dev/null || true
        wait "${pids[@]}" 2> /dev/null || true
    fi
    if [ "$code" -ne 0 ]; then tail -5 "$work"/*.log >&2 || true; fi
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT

"$raftmq" dev --port "$port" --data-dir "$work/data" > "$work/dev.log" 2>&1 &
pids+=($!)
for _ in {1..150}; do
    if curl --silent --fail "http://${nodes[0]}/readyz" > /dev/null; then break; fi
    sleep 0.2
done

cat > "$work/prometheus.yml" <<YAML
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ["$here/alerts.yml"]
scrape_configs:
  - job_name: raftmq
    static_configs:
      - targets: ["${nodes[0]}", "${nodes[1]}", "${nodes[2]}", "127.0.0.1:$((port - 1))"]
YAML
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/prometheus" \
    --web.listen-address="127.0.0.1:$prometheus_port" > "$work/prometheus.log" 2>&1 &
pids+=($!)

# A topic that is consumed, and messages left over, so that there is lag as well. A new topic can be
# refused for a moment, until its route has reached the name server.
"$raftmq" topic create bench > /dev/null
"$raftmq" group create bench > /dev/null
sleep 1
"$raftmq" bench send --rate 50 --seconds 3 > "$work/send.log"
# In the background: connections and clients are to be seen while they are there.
"$raftmq" bench end-to-end --rate 50 --seconds 25 > "$work/bench.log" 2>&1 &
pids+=($!)
sleep 4
# A refused call, for the panel of refusals.
"$raftmq" message send no-such-topic x > /dev/null 2>&1 || true
"$raftmq" cluster transfer-leader > /dev/null
sleep 8
"$raftmq" cluster snapshot > /dev/null
sleep 3
python3 "$here/queries.py" run "$here" "http://127.0.0.1:$prometheus_port"
