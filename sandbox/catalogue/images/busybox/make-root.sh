# Makes /root what the image will have as its root, with every applet as a hard link to one file.
set -eu
busybox=/package/usr/bin/busybox

# In this order, since the umask would take bits away from -m of the ones above.
$busybox mkdir -p /root/bin /root/dev /root/etc /root/home /root/lib /root/proc /root/sys /root/usr/bin /root/usr/sbin \
    /root/var/spool /root/var/www
$busybox mkdir -m 0700 /root/root
$busybox mkdir -m 1777 /root/tmp
$busybox cp $busybox /root/bin/busybox
for applet in $($busybox --list); do
    [ "$applet" = busybox ] || $busybox ln /root/bin/busybox "/root/bin/$applet"
done
# Scripts ask for it by this path.
$busybox ln -s ../../bin/env /root/usr/bin/env
$busybox cp /passwd /group /root/etc/
