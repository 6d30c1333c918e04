#!/bin/sh
# Fetches Debian's docker.io, containerd, runc, crun, podman and what they need, and unpacks them into a directory; nothing is installed.
#
#   peers.sh get DIR                    DRYDOCK_PEERS=DIR is then what the bench wants
#   peers.sh dockerd DIR STATE          runs docker.io at STATE/docker.sock (the bench calls it, in namespaces of its own)
#   peers.sh podman DIR STATE LAYER     sleeps in a place where crun, runc and podman work; podman has busybox
#   peers.sh in DIR STATE COMMAND...    a command with the environment of that place
set -eu
verb=$1 dir=$2
export PATH="$dir/usr/sbin:$dir/usr/bin:$PATH"

# For programs below $dir only: exported last, since our own tools need none of it.
libraries() { export LD_LIBRARY_PATH="$dir/usr/lib/x86_64-linux-gnu:$dir/lib/x86_64-linux-gnu"; }

case $verb in
get)
    mkdir -p "$dir/debs"
    cd "$dir/debs"
    apt-get download docker.io containerd runc crun podman conmon netavark aardvark-dns tini libyajl2 libgpgme11 libassuan0 \
        libdevmapper1.02.1 libseccomp2 libsubid4 libbtrfs0 libcap2 libsystemd0 libglib2.0-0 libnftnl11 libnfnetlink0 \
        libnetfilter-conntrack3
    for deb in ./*.deb; do dpkg-deb -x "$deb" "$dir"; done
    rm -r "$dir/debs"
    ;;
dockerd)
    state=$3
    ip link set lo up
    libraries
    exec dockerd --data-root "$state/data" --exec-root "$state/exec" --pidfile "$state/docker.pid" \
        --host "unix://$state/docker.sock" --storage-driver overlay2
    ;;
podman)
    state=$3 layer=$4
    ip link set lo up
    # crun refuses a machine that has both versions of control groups; this mount namespace shows it one.
    ! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
    mkdir -p "$state/etc" "$state/etc-work"
    mount -t overlay overlay -o "lowerdir=/etc,upperdir=$state/etc,workdir=$state/etc-work" /etc
    mkdir -p /etc/containers
    echo '{"default":[{"type":"insecureAcceptAnything"}]}' > /etc/containers/policy.json
    cat > /etc/containers/containers.conf <<EOF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
helper_binaries_dir = ["$dir/usr/lib/podman"]
conmon_path = ["$dir/usr/bin/conmon"]
conmon_env_vars = ["PATH=$PATH", "LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu:$dir/lib/x86_64-linux-gnu"]
[engine.runtimes]
runc = ["$dir/usr/sbin/runc"]
[network]
network_backend = "netavark"
network_config_dir = "$state/networks"
EOF
    mkdir -p "$state/bundle/rootfs"
    cp -a "$layer/." "$state/bundle/rootfs/"
    tar -C "$layer" -cf "$state/busybox.tar" .
    libraries
    podman --root "$state/root" --runroot "$state/run" --storage-driver overlay import "$state/busybox.tar" busybox > /dev/null 2>&1 ||
        echo "podman does not work here" >&2
    (cd "$state/bundle" && rm -f config.json && runc spec &&
        sed -i -e 's/"terminal": true/"terminal": false/' -e 's/"sh"/"true"/' -e 's/"readonly": true/"readonly": false/' config.json)
    echo ready
    exec sleep 1000000
    ;;
in)
    shift 3
    libraries
    exec "$@"
    ;;
*)
    echo "peers.sh: there is no verb $verb" >&2
    exit 2
    ;;
esac
