# Makes /root what the image will have as its root, with every applet as a hard link to one file.
set -eu
busybox=/package/usr/bin/busybox

# In this order, since the umask would take bits away from -m of the ones above.
$busybox mkdir -p /root/bin /root/dev /root/etc /root/home /root/lib /root/proc /root/sys /root/usr/bin /root/usr/sbin \
    /root/var/spool/mail /root/var/www
$busybox mkdir -m 0700 /root/root
$busybox mkdir -m 1777 /root/tmp
$busybox cp $busybox /root/bin/busybox
for applet in $($busybox --list); do
    [ "$applet" = busybox ] || $busybox ln /root/bin/busybox "/root/bin/$applet"
done
# What Debian has not compiled in and people look for in this image. Where the package has come to have one, that is taken.
script() {
    [ -e "/root/bin/$2" ] || { $busybox cp "/$1" "/root/bin/$2" && $busybox chmod 755 "/root/bin/$2"; }
}
for name in adduser deluser nohup nice pgrep; do
    script "$name" "$name"
done
script adduser addgroup
script deluser delgroup
script pgrep pkill
# Scripts ask for it by this path.
$busybox ln -s ../../bin/env /root/usr/bin/env
$busybox cp /passwd /group /shadow /root/etc/
$busybox chmod 600 /root/etc/shadow
$busybox chown 8:8 /root/var/spool/mail
$busybox chown 33:33 /root/var/www
