# What the scripts share that run a client's own tests against a session: a server of its own below a new directory `$work`, gone when
# the script ends. Wants root, the binary (DRYDOCK_BIN), the node image (DRYDOCK_IMAGES) and the catalogue (DRYDOCK_CATALOGUE), python3.
# Sourced from the root of the repository, not executed.
DRYDOCK_BIN=$(realpath "${DRYDOCK_BIN:-target/release/drydock}")
: "${DRYDOCK_IMAGES:?names the store with the node image}"
: "${DRYDOCK_CATALOGUE:?names the store with the container images}"
export DRYDOCK_IMAGES DRYDOCK_CATALOGUE

# On a disk: sessions' disks are files in it. The server gives up root and must be able to enter it.
work=$(mktemp -d "/var/tmp/drydock-$(basename "$0" .sh)-XXXXXX")
chmod 755 "$work"
served=
trap clean_up EXIT

# Ends the sessions and the server; one that does not stop is killed, and its sessions are ended without it.
clean_up() {
    if [ -n "$served" ] && ! drydock stop > /dev/null 2>&1; then
        kill -KILL "$served" 2> /dev/null || true
        wait "$served" 2> /dev/null || true
        drydock stop >&2 || echo "Sessions may be left: see $work/serve.log and \`drydock --state-dir $work/state stop\`" >&2
    fi
    [ -S "$work/state/run/warden.sock" ] || rm -rf "$work"
}

drydock() { "$DRYDOCK_BIN" --state-dir "$work/state" "$@"; }
in_node() { drydock exec "$session" "${2:-node1}" -- sh -c "$1"; }

# start_session PLAYGROUND NODES OPTION…: serves with the options and sets `session` to a new session's id.
start_session() {
    local playground=$1 nodes=$2
    shift 2
    mkdir -p "$work/state"
    "$DRYDOCK_BIN" --state-dir "$work/state" serve --listen 127.0.0.1:0 --sleep-after 0 "$@" > "$work/serve.log" 2>&1 &
    served=$!
    for _ in $(seq 200); do
        ! drydock session list > /dev/null 2>&1 || break
        sleep 0.1
    done
    drydock session list > /dev/null || { cat "$work/serve.log" >&2; return 1; }
    session=$(drydock session create --playground "$playground" --nodes "$nodes" --json |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
}

# process_of PROGRAM: the process of that name in the session.
process_of() {
    local pid
    for pid in $(pgrep -x "$1"); do
        ! grep -q "$session" "/proc/$pid/cgroup" || { echo "$pid"; return; }
    done
    echo "the session has no $1" >&2
    return 1
}

# fetch_crate NAME VERSION SHA256: unpacks the sources of a crate as it was published to `$work/NAME-VERSION`.
fetch_crate() {
    curl -fsSL "https://static.crates.io/crates/$1/$1-$2.crate" -o "$work/$1.crate" &&
        sha256sum --check --quiet <<< "$3  $work/$1.crate" &&
        tar -C "$work" -xzf "$work/$1.crate"
}

# skipped LIST: the tests of a list, whose lines are TEST, spaces, the reason; `#` begins a comment.
skipped() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$1" | awk '{ print $1 }'; }
