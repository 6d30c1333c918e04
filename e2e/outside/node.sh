# For scripts that run a client's own tests against the engine of a node: `start_node` serves a session of one node and sets `socket` to
# where its engine listens, as the host sees it. Wants what serve.sh wants. Sourced, not executed.
. e2e/outside/serve.sh

start_node() {
    start_session docker 1 --session-memory 2GiB --session-disk 4GiB
    # What the suites ask for by the name of Alpine, whose images are of another kind of Linux, is Debian's busybox with Alpine's users.
    in_node 'set -e
        docker pull -q busybox; docker pull -q hello-world
        mkdir -p /srv/alpine; cd /srv/alpine
        for tag in 3.10 latest; do
            printf "FROM busybox\nLABEL tag=$tag\nRUN echo postgres:x:70:70::/:/bin/sh >> /etc/passwd; mkdir -p /var/opt\n" > Dockerfile
            docker build -q -t alpine:$tag .
        done
        docker tag busybox busybox:1' > /dev/null
    socket=/proc/$(process_of dockerd)/root/run/docker.sock
}
