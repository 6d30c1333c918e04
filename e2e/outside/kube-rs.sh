#!/usr/bin/env bash
# kube-rs' own tests that want a cluster (its crates mark them as ignored) against that of a session; they come with the crates.
# kube-rs.txt lists those that do not apply, with the reason; everything else must pass. Wants what cluster.sh wants, and cargo.
# Arguments go to the tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
. e2e/outside/cluster.sh
version=5.0.0
list=$PWD/e2e/outside/kube-rs.txt

skip=()
for test in $(skipped "$list"); do
    skip+=(--skip "$test")
done
export CARGO_TARGET_DIR=${KUBE_RS_TARGET:-$work/target}
start_cluster
# The published crates have lost that they test each other: they become a workspace again.
crates="kube-client kube-runtime kube"
for name in $crates; do
    curl -fsSL "https://static.crates.io/crates/$name/$name-$version.crate" | tar -C "$work" -xz
    mv "$work/$name-$version" "$work/$name"
done
{
    echo '[workspace]'
    echo 'resolver = "2"'
    echo 'members = ["kube-client", "kube-runtime", "kube"]'
    echo '[patch.crates-io]'
    for name in $crates; do echo "$name = { path = \"$name\" }"; done
} > "$work/Cargo.toml"
for name in kube-client kube-runtime; do
    printf '\n[dev-dependencies.kube]\nversion = "%s"\nfeatures = ["derive", "client", "ws"]\n' "$version" >> "$work/$name/Cargo.toml"
done

# As `just test-integration` of their repository chooses them.
cd "$work"
failed=0
for crate in kube-client=rustls-tls,ws kube-runtime= kube=derive,runtime; do
    binary=$(cargo test --lib --no-run -p "${crate%%=*}" --features "${crate#*=}" --message-format json-render-diagnostics |
        python3 -c 'import json, sys; print(*[e for e in (json.loads(line).get("executable") for line in sys.stdin) if e])')
    in_cluster "$binary" --ignored --test-threads 1 "${skip[@]}" "$@" || failed=1
done
exit $failed
