#!/usr/bin/env bash
# Writes sandbox/kube/functions.order anew: the functions that the control plane of an idle cluster enters, which its program has side by
# side (sandbox/kube/build.rs). To be run when the toolchain or large dependencies have changed, since symbols' names tell these, or when
# `make bench` says that an idle control plane takes more memory. Wants what cluster.sh wants, and the program of a release build, whose
# symbols it has linked once more. Takes eight minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
. e2e/outside/cluster.sh
# Node statuses, compaction and the renewal of watches come every five minutes.
seconds=330

make target/release/drydock
"$DRYDOCK_BIN" image --catalogue "$DRYDOCK_CATALOGUE" add --if-missing --basic > /dev/null
cargo build --quiet --locked -p drydock-e2e --bin used-functions
# At the same addresses as in the images.
cargo rustc --quiet --release --locked -p drydock-kube --bin drydock-kube -- \
    -C target-feature=+crt-static -C relocation-model=static -C strip=debuginfo
cp target/release/drydock-kube "$work/drydock-kube"

start_cluster 3
in_node 'timeout 120 sh -c "until kubectl -n kube-system wait --for=condition=Ready --timeout=60s pod --all; do sleep 0.2; done"' > /dev/null
target/debug/used-functions "$work/drydock-kube" "$seconds" \
    "$(process_of kube-apiserver)" "$(process_of kube-controller)" "$(process_of kube-scheduler)" "$(process_of etcd)" > "$work/order"
cp "$work/order" sandbox/kube/functions.order
wc -l sandbox/kube/functions.order
