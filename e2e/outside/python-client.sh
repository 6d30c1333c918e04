#!/usr/bin/env bash
# The end-to-end tests of Kubernetes' Python client (blocking and asyncio) against a session's cluster: all must pass. PyPI's packages
# lack them, so the first argument names a checkout of https://github.com/kubernetes-client/python; the client itself comes from
# PyPI. Wants what cluster.sh wants, and python3 with venv. Further arguments go to pytest (`-k watch`).
set -euo pipefail
checkout=$(realpath "${1:?names a checkout of the client\'s sources}")
shift
cd "$(dirname "$0")/../.."
. e2e/outside/cluster.sh
version=37.0.2

python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q install "kubernetes==$version" aiohttp 'pytest<10' pytest-timeout
package=$("$work/venv/bin/python" -c 'import kubernetes, os; print(os.path.dirname(kubernetes.__file__))')
cp -r "$checkout/kubernetes/e2e_test" "$package/"
cp -r "$checkout/kubernetes/aio/e2e_test" "$package/aio/"

start_cluster
# The tests find their files from the root of the checkout.
cd "$checkout"
in_cluster "$work/venv/bin/pytest" "$package/e2e_test" "$package/aio/e2e_test" -q -p no:cacheprovider --timeout 120 --tb=short -rfEs "$@"
