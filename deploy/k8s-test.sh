#!/usr/bin/env bash
# k8s-test.sh: installs deploy/kubernetes into a real Kubernetes, and while the official Java client
# sends and receives inside the cluster, deletes the leader's pod, deletes the next leader's pod without a
# grace period, kills the process of the one after that, deletes a name server's pod and rolls the whole
# StatefulSet.
#
# Passes when no send failed, everything acknowledged was received and is stored once, every pod came
# back to its own volume, and leadership moved. Needs root and the one-node Kubernetes in $K8S_LAB
# (default: ../shared/k8s beside the checkout). Exit code 3: it can not run here.
#
#   RATE=100    sends a second
#   BINARY=     a release binary that is built already
#   KEEP=1      leave cluster and installation as they are afterwards
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(dirname "$here")
lab=${K8S_LAB:-$repository/../shared/k8s}
rate=${RATE:-100}
namespace=raftmq-test
topic=k8s-test
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/raftmq/target}

cannot() { echo "k8s-test can not run here: $*" >&2; exit 3; }
[ "$(id -u)" -eq 0 ] || cannot "it needs root, to start a Kubernetes"
[ -x "$lab/up.sh" ] || cannot "no one-node Kubernetes in $lab (set K8S_LAB)"
for tool in mvn jlink jar; do
    command -v "$tool" > /dev/null || cannot "it needs $tool, for the official client"
done
[ -n "${BINARY:-}" ] || command -v cargo > /dev/null || cannot "it needs cargo, or BINARY"

started=$SECONDS
work=$(mktemp -d)
note() { printf '%4ds  %s\n' $((SECONDS - started)) "$*"; }
k() { kubectl --namespace "$namespace" "$@"; }

diagnose() {
    k get pods,pvc --output wide || true
    k get events --sort-by=.lastTimestamp | tail -25 || true
    for pod in raftmq-broker-{1,2,3}; do
        echo "--- $pod"
        k logs "$pod" --tail 30 || true
    done
    k logs client --all-containers --tail 30 || true
    for container in produce consume; do
        echo "--- the client's own log: $container"
        k exec client --container "$container" -- sh -c "tail -n 30 /logs/$container/*/*.log" || true
    done
}
failed() { note "FAILED: $*"; diagnose; exit 1; }

# Deletes only what this test made: the cluster stays if it was there before.
finish() {
    local code=$?
    if [ -n "${KEEP:-}" ]; then
        note "kept: namespace $namespace, files in $work"
    elif [ "$cluster_was_up" = yes ]; then
        kubectl delete namespace "$namespace" --wait=false > /dev/null 2>&1 || true
        rm -rf "$work"
    else
        "$lab/down.sh" > /dev/null 2>&1 || true
        rm -rf "$work"
    fi
    exit "$code"
}

# The lab's own settings: KUBECONFIG, PATH, and ctr_ for its containers.
# shellcheck source=/dev/null
. "$lab/env.sh"
cluster_was_up=no
if kubectl get --raw /readyz > /dev/null 2>&1; then cluster_was_up=yes; fi
trap finish EXIT

note "building"
if [ -z "${BINARY:-}" ]; then
    BINARY=$CARGO_TARGET_DIR/release/raftmq
    nice cargo build --release --locked --manifest-path "$repository/Cargo.toml" -p raftmq \
        2> "$work/build.log" || { cat "$work/build.log"; exit 1; }
fi
DRIVER_OUT="$work/driver" "$repository/chaos-tests/clients/java/build.sh"

# Not one that is up: up.sh writes the proxy's configuration anew, at which the running proxy ends.
if [ "$cluster_was_up" = no ]; then
    note "starting Kubernetes"
    "$lab/up.sh" > "$work/up.log" 2>&1 || { cat "$work/up.log"; exit 1; }
fi

# A tag of its own for each run: pods of an earlier run's image would prove nothing.
tag=test-$(date +%s)
"$here/image.sh" "$BINARY" "$work/image"
"$lab/load-image.sh" "$work/image" "raftmq:$tag" --entrypoint /usr/bin/raftmq --user 10001

"$here/client-image.sh" "$work/driver" "$work/client"
"$lab/load-image.sh" "$work/client" "raftmq-client:$tag"

note "installing"
kubectl delete namespace "$namespace" --ignore-not-found > /dev/null
kubectl create namespace "$namespace" > /dev/null
for file in "$here"/kubernetes/*.yaml; do
    sed "s#image: raftmq:latest#image: raftmq:$tag#" "$file" | k apply --filename - > /dev/null
done
k rollout status statefulset/raftmq-broker --timeout 300s > /dev/null || failed "brokers not ready"
for name in a b; do
    k rollout status "deployment/raftmq-namesrv-$name" --timeout 120s > /dev/null \
        || failed "name server $name not ready"
done
note "ready"

operator() { k exec raftmq-broker-1 --container broker -- raftmq "$@"; }
# Any pod may be the one that is away just now.
ask() {
    local pod
    for pod in raftmq-broker-{1,2,3}; do
        if k exec "$pod" --container broker -- raftmq "$@" 2> "$work/ask.log"; then return 0; fi
    done
    cat "$work/ask.log" >&2
    return 1
}
leader() {
    ask cluster status --output json \
        | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["leader_id"])'
}
term() {
    ask cluster status --output json | python3 -c '
import json, sys
print(max(m["term"] for m in json.load(sys.stdin)[0]["members"]))'
}
# The claim's volume, and the id that the node itself wrote onto it.
volumes() {
    local node
    for node in 1 2 3; do
        printf '%s %s %s\n' "raftmq-broker-$node" \
            "$(k get pvc "data-raftmq-broker-$node" --output jsonpath='{.spec.volumeName}')" \
            "$(k exec "raftmq-broker-$node" --container broker -- \
                sh -c 'read -r id < /data/volume || true; echo "$id"')"
    done
}

operator topic create "$topic" > /dev/null
operator topic create "$topic-probe" > /dev/null
operator group create "$topic" > /dev/null
volumes > "$work/volumes.before"
[ "$(awk 'NF == 3' "$work/volumes.before" | wc -l)" -eq 3 ] || failed "a volume has no id"
term_before=$(term)

# The consumer is a push consumer because its driver notes a message when it is delivered. The simple
# one notes it after its acknowledgement: one that was done, but whose answer was lost with the pod,
# would look like a lost message.
# Each driver writes to a file in the pod, as does the client in it; the shell around it stays, so that
# the files can be read.
cat > "$work/client.yaml" <<YAML
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 10002, runAsGroup: 10002, fsGroup: 10002}
  containers:
    - name: produce
      image: raftmq-client:$tag
      imagePullPolicy: IfNotPresent
      env: [{name: DRIVER_LOG_DIR, value: /logs/produce}]
      command: [sh, -c, 'driver produce --endpoint raftmq-namesrv:8081 --topic $topic --rate $rate --seconds 1800 --log /logs/sent; echo \$? > /logs/produce.code; sleep 7200']
      volumeMounts: [{name: logs, mountPath: /logs}, {name: tmp, mountPath: /tmp}]
    - name: consume
      image: raftmq-client:$tag
      imagePullPolicy: IfNotPresent
      env: [{name: DRIVER_LOG_DIR, value: /logs/consume}]
      command: [sh, -c, 'driver consume --endpoint raftmq-namesrv:8081 --topic $topic --group $topic --mode push --log /logs/received; echo \$? > /logs/consume.code; sleep 7200']
      volumeMounts: [{name: logs, mountPath: /logs}, {name: tmp, mountPath: /tmp}]
    # Beside the client, whose retries and pauses are its own: how long the servers themselves took. It
    # is reported, not judged.
    - name: probe
      image: raftmq:$tag
      imagePullPolicy: IfNotPresent
      args: [bench, send, --endpoint, "raftmq-namesrv:8081", --topic, $topic-probe, --rate, "20", --seconds, "90", --output, json]
  volumes: [{name: logs, emptyDir: {}}, {name: tmp, emptyDir: {}}]
YAML
k apply --filename "$work/client.yaml" > /dev/null
k wait --for=condition=Ready pod/client --timeout 120s > /dev/null || failed "the client did not start"
until k logs client --container produce | grep -q READY; do
    [ -z "$(k exec client --container produce -- cat /logs/produce.code 2> /dev/null)" ] \
        || failed "the producer ended"
    sleep 1
done
note "an official client sends $rate a second and receives"
sleep 10

# now_ms of this machine is that of the pods: one kernel.
mark() { printf '%s %s\n' "$(date +%s%3N)" "$*" >> "$work/events"; note "$*"; }
container() { k get pod "$1" --output jsonpath='{.status.containerStatuses[0].containerID}'; }
await_pod() { # another container runs in it and is ready
    local pod=$1 old=$2
    until [ "$(container "$pod" 2> /dev/null)" != "$old" ] \
        && k wait --for=condition=Ready "pod/$pod" --timeout 5s > /dev/null 2>&1; do
        sleep 1
        [ $((SECONDS - waiting)) -lt 240 ] || failed "$pod did not come back"
    done
}

# A pod that is deleted without grace still gets a second for its preStop hook and two after SIGTERM,
# enough to hand over. A process that is killed, as by the kernel when memory runs out, hands nothing over.
for way in "deleting the pod" "deleting the pod without grace" "killing the process"; do
    old_leader=$(leader)
    pod=raftmq-broker-$old_leader
    old=$(container "$pod")
    mark "$way of the leader, $pod"
    case $way in
        "killing the process") ctr_ task kill --signal SIGKILL "${old#containerd://}" ;;
        "deleting the pod") k delete pod "$pod" --wait=false ;;
        *) k delete pod "$pod" --wait=false --grace-period=0 --force ;;
    esac > /dev/null 2> "$work/delete.log" || { cat "$work/delete.log"; failed "it did not go"; }
    waiting=$SECONDS
    until new_leader=$(leader) && [ "$new_leader" != 0 ] && [ "$new_leader" != "$old_leader" ]; do
        [ $((SECONDS - waiting)) -lt 60 ] || failed "leadership stayed at node $old_leader"
        sleep 0.5
    done
    note "node $new_leader leads"
    await_pod "$pod" "$old"
    note "$pod is back"
    sleep 10
done

mark "deleting a name server's pod"
k delete pod --selector app.kubernetes.io/instance=raftmq-namesrv-a --wait=false > /dev/null
sleep 5

mark "rolling the StatefulSet"
k rollout restart statefulset/raftmq-broker > /dev/null
k rollout status statefulset/raftmq-broker --timeout 600s > /dev/null || failed "the roll did not end"
mark "rolled"
sleep 10

k exec client --container produce -- killall -TERM java
waiting=$SECONDS
until k exec client --container produce -- cat /logs/produce.code > /dev/null 2>&1; do
    [ $((SECONDS - waiting)) -lt 60 ] || failed "the producer did not end"
    sleep 1
done
mark "the producer has ended"
# What is in flight at a consumer that was cut off comes back after its invisible time of 30 s.
waiting=$SECONDS
fetch() { k exec client --container produce -- cat "/logs/$1" > "$work/$1"; }
fetch sent
while fetch received; do
    if "$here/k8s_verdict.py" missing "$work" > /dev/null; then break; fi
    [ $((SECONDS - waiting)) -lt 120 ] || break
    sleep 2
done
k exec client --container consume -- killall -TERM java || true

# The three replicas' own word on what is stored, and that they agree.
ask topic describe "$topic" --output json > "$work/topic"
ask cluster status --output json > "$work/status"
volumes > "$work/volumes.after"
echo "$term_before $(term)" > "$work/terms"
ask cluster status
k get events --field-selector reason=FailedPreStopHook > "$work/hooks" 2> /dev/null || true
if grep -q FailedPreStopHook "$work/hooks"; then failed "a preStop hook failed"; fi

# Its last line is the result.
waiting=$SECONDS
until [ -n "$(k get pod client --output \
    jsonpath='{.status.containerStatuses[?(@.name=="probe")].state.terminated.reason}')" ]; do
    [ $((SECONDS - waiting)) -lt 60 ] || failed "the probe did not end"
    sleep 1
done
k logs client --container probe --tail 1 > "$work/probe"
"$here/k8s_verdict.py" all "$work" || failed "see above"
note "passed"
