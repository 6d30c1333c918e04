#!/usr/bin/env bash
# The sandbox's tests, and the engine's in a node, on a host of another kind than this one: Debian 13's own kernel with control
# groups v2 only, in a virtual machine without hardware support (some 6 minutes). Needs root, the binary (DRYDOCK_BIN), the node
# image (DRYDOCK_IMAGES), the catalogue (DRYDOCK_CATALOGUE) and the packages qemu-system-x86 and mmdebstrap. `make test-v2`
# calls it; it is not part of `make test`.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${DRYDOCK_IMAGES:?names the store with the node image}"
: "${DRYDOCK_CATALOGUE:?names the store with the container images}"
: "${DRYDOCK_BIN:=target/release/drydock}"
work=$(mktemp -d /var/tmp/drydock-vm-XXXXXX)
trap 'rm -rf "$work"' EXIT

# executable PACKAGE TEST
executable() {
    cargo test --locked -p "$1" --test "$2" --no-run >&2
    cargo test --locked -p "$1" --test "$2" --no-run --message-format=json 2> /dev/null |
        jq -r --arg test "$2" 'select(.executable != null and .target.name == $test) | .executable'
}
sandbox=$(executable drydock-warden sandbox)
engine=$(executable drydock-engine node)

# Where apt's own user can read them, which may not see root's home.
chmod 755 "$work"
install -D -m 644 -t "$work/keys" sandbox/images/keys/*.gpg
mmdebstrap --quiet --variant=minbase --keyring="$work/keys" \
    --include=linux-image-cloud-amd64,initramfs-tools,btrfs-progs,nftables,iproute2,procps,kmod,util-linux,zstd \
    trixie "$work/root.tar"
mkdir "$work/root"
tar -C "$work/root" -xf "$work/root.tar"
cp "$sandbox" "$work/root/sandbox-test"
cp "$engine" "$work/root/engine-test"
"$DRYDOCK_BIN" image --catalogue "$DRYDOCK_CATALOGUE" catalogue export - busybox hello-world |
    "$DRYDOCK_BIN" image --catalogue "$work/root/catalogue" catalogue import -
cp -a "$DRYDOCK_IMAGES" "$work/root/images"
cat > "$work/root/run-test" << 'INIT'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for dir in /dev/shm /run /tmp; do mount -t tmpfs tmpfs $dir; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for module in loop btrfs overlay veth bridge nf_tables nft_masq nft_chain_nat nft_ct nft_reject_ipv4 \
    nft_redir nft_compat xt_addrtype xt_conntrack xt_MASQUERADE xt_nat xt_tcpudp; do
    modprobe $module
done
ip link set lo up
export DRYDOCK_IMAGES=/images DRYDOCK_CATALOGUE=/catalogue RUST_BACKTRACE=0
/sandbox-test && /engine-test && echo "cgroup v2: passed on $(uname -r)"
sync
echo o > /proc/sysrq-trigger
sleep 60
INIT
chmod +x "$work/root/run-test"
truncate -s 4G "$work/disk.img"
mke2fs -q -t ext4 -d "$work/root" "$work/disk.img"

timeout 1200 qemu-system-x86_64 -accel tcg,thread=multi -m 3072 -smp 2 -nographic -no-reboot -net none \
    -kernel "$work"/root/boot/vmlinuz-* -initrd "$work"/root/boot/initrd.img-* \
    -append "root=/dev/vda rw console=ttyS0 init=/run-test quiet panic=-1 no_timer_check" \
    -drive "file=$work/disk.img,format=raw,if=virtio" < /dev/null | tee "$work/log"
grep -q 'cgroup v2: passed' "$work/log"
