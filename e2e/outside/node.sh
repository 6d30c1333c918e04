# For scripts that run a client's own tests against the engine of a node: `start_node DIR` serves a session of one node from a new state
# directory DIR and sets `socket` to where its engine listens, as the host sees it, and `in_node` runs something there. Wants root, the
# binary (DRYDOCK_BIN), the node image (DRYDOCK_IMAGES) and the catalogue (DRYDOCK_CATALOGUE). Sourced, not executed.
: "${DRYDOCK_BIN:=target/release/drydock}"
: "${DRYDOCK_IMAGES:?names the store with the node image}"
: "${DRYDOCK_CATALOGUE:?names the store with the container images}"
export DRYDOCK_IMAGES DRYDOCK_CATALOGUE

drydock() { "$DRYDOCK_BIN" --state-dir "$state" "$@"; }
in_node() { drydock exec "$session" node1 -- sh -c "$1"; }

start_node() {
    state=$1
    mkdir -p "$state"
    "$DRYDOCK_BIN" --state-dir "$state" serve --listen "${LISTEN:-127.0.0.1:8971}" --sleep-after 0 --session-memory 2GiB --session-disk 4GiB > "$state.log" 2>&1 &
    for _ in $(seq 200); do
        ! drydock session list > /dev/null 2>&1 || break
        sleep 0.1
    done
    drydock session list > /dev/null || { cat "$state.log" >&2; return 1; }
    session=$(drydock session create --playground docker --nodes 1 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
    # What the suites ask for by the name of Alpine, whose images are of another kind of Linux, is Debian's busybox with Alpine's users.
    in_node 'set -e
        docker pull -q busybox; docker pull -q hello-world
        mkdir -p /srv/alpine; cd /srv/alpine
        for tag in 3.10 latest; do
            printf "FROM busybox\nLABEL tag=$tag\nRUN echo postgres:x:70:70::/:/bin/sh >> /etc/passwd; mkdir -p /var/opt\n" > Dockerfile
            docker build -q -t alpine:$tag .
        done
        docker tag busybox busybox:1' > /dev/null
    for pid in $(pgrep -x dockerd); do
        ! grep -q "$session" "/proc/$pid/cgroup" || socket=/proc/$pid/root/run/docker.sock
    done
    : "${socket:?the node has no engine}"
}

stop_node() {
    drydock stop > /dev/null 2>&1 || true
}

# skipped LIST: the tests of a list, whose lines are TEST, spaces, the reason; `#` begins a comment.
skipped() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$1" | awk '{ print $1 }'; }
