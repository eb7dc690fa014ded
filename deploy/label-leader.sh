#!/usr/bin/env bash
# label-leader.sh [NAMESPACE]: keeps the label raftmq-role=leader on the pod that leads, until it is
# stopped, for tools that find pods by labels only (chaos/README.md). Takes it off at the end.
#
#   PERIOD_S=0.5   between two questions
#
# Pods do not label themselves: they have no rights in the cluster's API, on purpose.
set -euo pipefail

namespace=${1:-raftmq}
period_s=${PERIOD_S:-0.5}
brokers=app.kubernetes.io/name=raftmq,app.kubernetes.io/component=broker
k() { kubectl --namespace "$namespace" --request-timeout 5s "$@"; }

clear_label() { k label pods --selector "$brokers" raftmq-role- > /dev/null 2>&1 || true; }
trap 'clear_label; exit 0' INT TERM
trap clear_label EXIT

# The node id of the leader, or nothing. Each member is asked by whichever pod answers first.
leader() {
    local pod id
    for pod in $(k get pods --selector "$brokers" --output name); do
        id=$(k exec "$pod" --container broker -- raftmq cluster status --output json 2> /dev/null \
            | sed -n 's/.*"leader_id":\([0-9]*\).*/\1/p' | head -n 1) || true
        if [ "${id:-0}" != 0 ]; then
            echo "$id"
            return
        fi
    done
}

before=
while true; do
    now=$(leader || true)
    pod=raftmq-broker-$now
    # A pod that came back has lost the label, so it is looked at each time.
    if [ -n "$now" ] && ! k get pod "$pod" --output 'jsonpath={.metadata.labels.raftmq-role}' \
        2> /dev/null | grep -q leader; then
        clear_label
        k label pod "$pod" raftmq-role=leader > /dev/null 2>&1 || true
    elif [ -z "$now" ]; then
        # Better nobody than the last one.
        clear_label
    fi
    if [ "$now" != "$before" ]; then
        echo "$(date +%T) leader: ${now:-none}"
        before=$now
    fi
    sleep "$period_s" &
    wait $!
done
