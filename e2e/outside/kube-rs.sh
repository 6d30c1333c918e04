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
fetch_crate kube-client "$version" ae56b223bca490db1f1b115bfc606d411177511d7748d8cc019a7e3b2935430b
fetch_crate kube-runtime "$version" 9dea60005024b6ec1819c426209aa29b9eaca64f6b3988ab73c55f43fa484392
fetch_crate kube "$version" c73b082f549411623a4f8949bd24dcaedacb1511379c461c76d579fde301d021
for name in $crates; do
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
