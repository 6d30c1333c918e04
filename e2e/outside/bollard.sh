#!/usr/bin/env bash
# bollard's own integration tests (the Rust client) against the engine of a node; they come with its crate. bollard.txt lists those
# that do not apply, with the reason; everything else must pass. Wants what node.sh wants, and cargo. Arguments go to the tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
. e2e/outside/node.sh
version=0.20.1
list=$PWD/e2e/outside/bollard.txt

fetch_crate bollard "$version" 227aa051deec8d16bd9c34605e7aaf153f240e35483dd42f6f78903847934738
start_node
# What its tests pull from a registry of their own (`resources/dockerfiles/bin/run_integration_tests.sh`).
in_node 'set -e
    docker login -u bollard -p bollard registry:5000
    mkdir -p /srv/uhttpd; cd /srv/uhttpd
    printf "#!/bin/sh\nexec httpd \"\$@\"\n" > run_uhttpd; chmod +x run_uhttpd
    printf "\nconfig uhttpd main\n\toption home /www\n" > uhttpd
    printf "FROM busybox\nRUN mkdir /www\nCOPY run_uhttpd /usr/sbin/\nCOPY uhttpd /etc/config/\n" > Dockerfile
    docker build -q -t registry:5000/fussybeaver/uhttpd .
    docker tag hello-world registry:5000/hello-world:linux
    docker tag alpine registry:5000/alpine
    for image in hello-world:linux fussybeaver/uhttpd alpine; do docker push -q registry:5000/$image; done' > /dev/null 2>&1
export REGISTRY_HTTP_ADDR=registry:5000 REGISTRY_USER=bollard REGISTRY_PASSWORD=bollard
skip=()
for test in $(skipped "$list"); do
    skip+=(--skip "$test")
done
cd "$work/bollard-$version"
export CARGO_TARGET_DIR=${BOLLARD_TARGET:-$work/target}
DOCKER_HOST=unix://$socket cargo test --no-fail-fast --tests -- --test-threads 1 "${skip[@]}" "$@"
