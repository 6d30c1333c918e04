# For scripts that run a client's own tests against a cluster: `start_cluster DIR` serves a session of two nodes from a new state
# directory DIR and writes its administrator's kubeconfig to DIR.kubeconfig; `in_cluster COMMAND…` runs a program of the host in the
# network of node1, where that file's address is reached. Wants root, the binary (DRYDOCK_BIN), the node image (DRYDOCK_IMAGES) and the
# catalogue (DRYDOCK_CATALOGUE). Sourced, not executed.
: "${DRYDOCK_BIN:=$PWD/target/release/drydock}"
: "${DRYDOCK_IMAGES:?names the store with the node image}"
: "${DRYDOCK_CATALOGUE:?names the store with the container images}"
export DRYDOCK_IMAGES DRYDOCK_CATALOGUE

drydock() { "$DRYDOCK_BIN" --state-dir "$state" "$@"; }
in_node() { drydock exec "$session" node1 -- sh -c "$1"; }

start_cluster() {
    state=$1
    mkdir -p "$state"
    "$DRYDOCK_BIN" --state-dir "$state" serve --listen "${LISTEN:-127.0.0.1:8972}" --sleep-after 0 --session-memory 3GiB > "$state.log" 2>&1 &
    for _ in $(seq 200); do
        ! drydock session list > /dev/null 2>&1 || break
        sleep 0.1
    done
    drydock session list > /dev/null || { cat "$state.log" >&2; return 1; }
    session=$(drydock session create --playground kubernetes --nodes 2 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
    in_node 'timeout 60 sh -c "until kubectl wait --for=condition=Ready --timeout=60s node/node1 node/node2; do sleep 0.2; done"' > /dev/null 2>&1
    in_node 'cat /root/.kube/config' > "$state.kubeconfig"
    # What the suites ask for by another tag.
    for node in node1 node2; do
        drydock exec "$session" "$node" -- sh -c 'docker pull -q busybox && docker tag busybox busybox:stable' > /dev/null
    done
    for pid in $(pgrep -x kube-apiserver); do
        ! grep -q "$session" "/proc/$pid/cgroup" || server=$pid
    done
    : "${server:?the session has no API server}"
}

in_cluster() { KUBECONFIG=$state.kubeconfig nsenter --target "$server" --net "$@"; }

stop_cluster() {
    drydock stop > /dev/null 2>&1 || true
}
