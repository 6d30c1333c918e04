#!/usr/bin/env bash
# kube-rs' own tests that want a cluster (its crates mark them as ignored) against that of a session; they come with the crates.
# kube-rs.txt lists those that do not apply, with the reason; everything else must pass. Wants what cluster.sh wants, and cargo.
# Arguments go to the tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
. e2e/outside/cluster.sh
version=5.0.0
list=$PWD/e2e/outside/kube-rs.txt
work=$(mktemp -d /var/tmp/drydock-kube-rs-XXXXXX)
chmod 755 "$work" # The server gives up root.
trap 'stop_cluster; rm -rf "$work"' EXIT

skip=()
for test in $(sed -e 's/#.*//' "$list" | awk '{ print $1 }'); do
    skip+=(--skip "$test")
done
export CARGO_TARGET_DIR=${KUBE_RS_TARGET:-$work/target}
start_cluster "$work/state"
for crate in kube-client:client,ws,admission kube-runtime:unstable-runtime kube:client,ws,runtime,derive; do
    name=${crate%%:*}
    curl -fsSL "https://static.crates.io/crates/$name/$name-$version.crate" | tar -C "$work" -xz
    # Registries' crates have no workspace around them, and features of the tests differ from those of users.
    (cd "$work/$name-$version" && in_cluster_build=$(cargo test --lib --no-run --all-features --message-format json |
        python3 -c 'import json, sys
for line in sys.stdin:
    one = json.loads(line)
    if one.get("executable"): print(one["executable"])') && in_cluster "$in_cluster_build" --ignored --test-threads 1 "${skip[@]}" "$@")
done
