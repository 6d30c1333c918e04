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
# As `just test-integration` of their repository chooses them.
for crate in kube-client=rustls-tls,ws kube-runtime= kube=derive,runtime; do
    name=${crate%%=*}
    curl -fsSL "https://static.crates.io/crates/$name/$name-$version.crate" | tar -C "$work" -xz
    cd "$work/$name-$version"
    binary=$(cargo test -q --lib --no-run --features "${crate#*=}" --message-format json |
        python3 -c 'import json, sys; print(*[e for e in (json.loads(line).get("executable") for line in sys.stdin) if e])')
    in_cluster "$binary" --ignored --test-threads 1 "${skip[@]}" "$@"
done
