# For scripts that run a client's own tests against a cluster: `start_cluster [NODES]` serves a session of two nodes, or so many; `in_cluster COMMAND…` runs a
# program of the host as the cluster's administrator in the network of node1, where the API server's address is reached. Wants what
# serve.sh wants. Sourced, not executed.
. e2e/outside/serve.sh

start_cluster() {
    local node nodes=${1:-2}
    start_session kubernetes "$nodes" --session-memory 3GiB
    for node in $(seq -f 'node%.0f' "$nodes"); do
        in_node "timeout 60 sh -c 'until kubectl wait --for=condition=Ready --timeout=60s node/$node; do sleep 0.2; done'" > /dev/null 2>&1
        # What the suites ask for by another tag.
        in_node 'docker pull -q busybox && docker tag busybox busybox:stable' "$node" > /dev/null
    done
    in_node 'cat /root/.kube/config' > "$work/kubeconfig"
    server=$(process_of kube-apiserver)
}

in_cluster() { KUBECONFIG=$work/kubeconfig nsenter --target "$server" --net "$@"; }
