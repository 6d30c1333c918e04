#!/usr/bin/env bash
# What Testcontainers for Python does with an engine, against that of a node: a container with a port and a log to wait for, two in a
# network that find each other by name, an image that is built. Wants what node.sh wants, and python3 with venv.
set -euo pipefail
cd "$(dirname "$0")/../.."
. e2e/outside/node.sh

python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q install testcontainers==4.15.0
start_node
mkdir "$work/context"
printf 'FROM busybox\nCMD echo built\n' > "$work/context/Dockerfile"
# Its cleaner is an image of Docker Hub.
HOME=$work DOCKER_HOST=unix://$socket TESTCONTAINERS_RYUK_DISABLED=true "$work/venv/bin/python" -W ignore - "$work/context" << 'PYTHON'
import sys
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.waiting_utils import wait_for_logs

with DockerContainer("busybox").with_command("sh -c 'echo up; sleep 100'").with_env("A", "1").with_exposed_ports(80) as one:
    wait_for_logs(one, "up", timeout=60)
    result = one.exec('sh -c "echo $A; exit 3"')
    assert (result.exit_code, result.output) == (3, b"1\n"), result
    assert int(one.get_exposed_port(80)) > 0
    assert one.get_logs() == (b"up\n", b"")
with Network() as network:
    server = DockerContainer("busybox").with_command("httpd -f -h /etc").with_network(network).with_network_aliases("web")
    client = DockerContainer("busybox").with_network(network)
    with server, client.with_command("sh -c 'until wget -qO- http://web/passwd; do sleep 0.2; done; echo got; sleep 100'"):
        wait_for_logs(client, "got", timeout=60)
with DockerImage(path=sys.argv[1], tag="testcontainers:1") as image, DockerContainer(str(image)) as built:
    wait_for_logs(built, "built", timeout=60)
print("testcontainers: passed")
PYTHON
