#!/usr/bin/env bash
# docker-py's own integration tests against the engine of a node. They come with its source package on PyPI (7.0.0 is the newest that
# has them). docker-py.txt lists those that do not apply, with the reason; everything else must pass. Wants what node.sh wants, and
# python3 with venv. Arguments go to pytest (`-k exec`).
set -euo pipefail
cd "$(dirname "$0")/../.."
. e2e/outside/node.sh
version=7.0.0
list=$PWD/e2e/outside/docker-py.txt

python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q install "docker[websockets]==$version" 'requests<2.32' 'pytest<8' pytest-timeout paramiko
"$work/venv/bin/pip" -q download --no-deps --no-binary :all: "docker==$version" -d "$work"
tar -C "$work" -xf "$work/docker-$version.tar.gz"

start_node
# Tests of `docker image prune` take what nobody uses.
in_node "docker run -d alpine:3.10 sleep 100000; docker run -d alpine:latest sleep 100000" > /dev/null
deselect=()
for test in $(skipped "$list"); do
    deselect+=(--deselect "$test")
done
cd "$work/docker-$version"
# Contexts and credentials of the client are files in a home directory.
HOME=$work DOCKER_HOST=unix://$socket "$work/venv/bin/pytest" tests/integration -q -p no:cacheprovider --timeout 120 --tb=short -rfE "${deselect[@]}" "$@"
