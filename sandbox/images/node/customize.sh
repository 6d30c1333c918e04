# Runs on the build machine when all packages are installed; $1 is the new root. Adds our files and takes away what
# only belongs to the build machine.
set -eu
tar --extract --file "$DRYDOCK_BUILD/files.tar" --directory "$1"
chmod 755 "$1/usr/local/bin/systemctl" "$1/usr/local/bin/service"
mkdir -p "$1/var/lib/docker/catalogue"
# Completions are loaded when first asked for, from here; making them takes longer than a shell may take to start.
for tool in kubectl; do
    chroot "$1" "$tool" completion bash > "$1/usr/share/bash-completion/completions/$tool"
done
# A node's init writes these.
rm -f "$1/etc/hostname" "$1/etc/hosts" "$1/etc/resolv.conf"
rm -rf "$1/etc/update-motd.d" "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old \
    "$1"/var/cache/apt/*.bin "$1/var/cache/ldconfig/aux-cache" "$1"/var/log/*.log "$1"/var/log/apt/*
