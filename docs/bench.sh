#!/usr/bin/env bash
# Runs a fixed set of measurements and writes their table into docs/performance.md.
#
# Every figure of ours stands beside the ceiling of the same run on the same machine: the echo server
# (same gRPC stack, stores nothing) and the disk. Only ratios mean something elsewhere. Everything runs
# on loopback, for BENCH_SECONDS (default 8) each, three rounds; the table has the medians.
set -euo pipefail
cd "$(dirname "$0")/.."

raftmq=${CARGO_TARGET_DIR:-$HOME/.cache/raftmq/target}/release/raftmq
seconds=${BENCH_SECONDS:-8}
rounds=${BENCH_ROUNDS:-3}
port=${BENCH_PORT:-9081}
work=$(mktemp -d)
pids=()
stop_all() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    pids=()
}
trap 'stop_all; rm -rf "$work"' EXIT

send() { # endpoint, further options
    local endpoint=$1
    shift
    "$raftmq" bench send --endpoint "$endpoint" --topic bench --output json "$@"
}

# Processor time of all threads of a process, in nanoseconds: short wake-ups escape the tick counters.
processor_ns() { cat "/proc/$1"/task/*/schedstat | awk '{ ns += $1 } END { printf "%.0f", ns }'; }

start_group() { # number of nodes
    "$raftmq" dev --nodes "$1" --port "$port" --data-dir "$work/data-$1" >"$work/dev.log" 2>&1 &
    pids+=($!)
    export RAFTMQ_ADMIN=127.0.0.1:$((port + 102)),127.0.0.1:$((port + 202)),127.0.0.1:$((port + 302))
    for _ in $(seq 100); do
        if "$raftmq" topic create bench >/dev/null 2>&1; then break; fi
        if "$raftmq" topic list 2>/dev/null | grep -q '^bench'; then break; fi
        sleep 0.1
    done
    "$raftmq" group create bench >/dev/null 2>&1 || true
}

for round in $(seq "$rounds"); do
    echo "round $round of $rounds" >&2
    "$raftmq" bench disk --dir "$work" --output json >>"$work/disk.json"
    "$raftmq" bench store --dir "$work" --seconds "$seconds" --output json >>"$work/store.json"

    "$raftmq" bench echo-server --listen "127.0.0.1:$((port + 50))" >/dev/null 2>&1 &
    pids+=($!)
    sleep 0.5
    send "127.0.0.1:$((port + 50))" --concurrency 256 --seconds "$seconds" >>"$work/echo.json"
    send "127.0.0.1:$((port + 50))" --concurrency 1 --connections 1 --seconds 3 >>"$work/echo-1.json"
    stop_all

    for nodes in 1 3; do
        start_group "$nodes"
        if [ "$round" = 1 ] && [ "$nodes" = 3 ]; then
            # An idle cluster: memory, and processor time over ten seconds.
            pid=${pids[-1]}
            sleep 3
            before=$(processor_ns "$pid")
            sleep 10
            after=$(processor_ns "$pid")
            awk -v kib="$(awk '/VmRSS/ {print $2}' "/proc/$pid/status")" -v ns=$((after - before)) \
                'BEGIN { printf "{\"rss_mib\": %.0f, \"core_percent\": %.1f}\n", kib / 1024, ns / 1e8 }' \
                >"$work/idle.json"
        fi
        send "127.0.0.1:$port" --concurrency 256 --seconds "$seconds" >>"$work/send-$nodes.json"
        send "127.0.0.1:$port" --concurrency 1 --connections 1 --seconds 3 >>"$work/send-$nodes-1.json"
        send "127.0.0.1:$port" --concurrency 32 --messages-per-request 32 --seconds "$seconds" \
            >>"$work/send-$nodes-batch.json"
        "$raftmq" bench receive --endpoint "127.0.0.1:$port" --topic bench --group bench \
            --seconds "$seconds" --output json >>"$work/receive-$nodes.json"
        stop_all
        rm -rf "$work/data-$nodes"
    done
done

# What stands below the table was measured by hand, and stays.
{
    python3 docs/bench_table.py "$work"
    echo
    sed -n '/^## /,$p' docs/performance.md
} >"$work/performance.md"
cp "$work/performance.md" docs/performance.md
cat docs/performance.md
