# mmdebstrap runs this on the host when everything is installed; $1 is the root, DRYDOCK_CONTEXT the directory of this file.
set -eu
root=$1

# How this machine gets packages and finds names is nothing for the image.
rm -f "$root/etc/apt/sources.list" "$root/etc/hostname" "$root/etc/resolv.conf"
# apt.conf tells apt not to make them, so that it would not clean them up any more.
rm -f "$root"/var/cache/apt/*.bin

install -m 0644 "$DRYDOCK_CONTEXT/debian.sources" "$root/etc/apt/sources.list.d/debian.sources"
install -m 0644 "$DRYDOCK_CONTEXT/dpkg-excludes" "$root/etc/dpkg/dpkg.cfg.d/docker"
install -m 0644 "$DRYDOCK_CONTEXT/apt.conf" "$root/etc/apt/apt.conf.d/docker"
install -m 0755 "$DRYDOCK_CONTEXT/policy-rc.d" "$root/usr/sbin/policy-rc.d"
