# For scripts that run a client's own tests against a cluster: `start_cluster` serves a session of two nodes; `in_cluster COMMAND…` runs a
# program of the host as the cluster's administrator in the network of node1, where the API server's address is reached. Wants what
# serve.sh wants. Sourced, not executed.
. e2e/outside/serve.sh

start_cluster() {
    start_session kubernetes 2 --session-memory 3GiB
    in_node 'timeout 60 sh -c "until kubectl wait --for=condition=Ready --timeout=60s node/node1 node/node2; do sleep 0.2; done"' > /dev/null 2>&1
    in_node 'cat /root/.kube/config' > "$work/kubeconfig"
    # What the suites ask for by another tag.
    for node in node1 node2; do
        in_node 'docker pull -q busybox && docker tag busybox busybox:stable' "$node" > /dev/null
    done
    server=$(process_of kube-apiserver)
}

in_cluster() { KUBECONFIG=$work/kubeconfig nsenter --target "$server" --net "$@"; }
