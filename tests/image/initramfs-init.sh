#!/bin/busybox sh
# First program of the guest: loads the modules named in /modules, in that order, and puts a tmpfs
# over the read-only root. With `lab.probe` on the command line it only says that it got here.
export PATH=/bin

/bin/busybox mkdir -p /dev /proc /sys /lower /upper /root
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc

fail() {
    echo "lab: initramfs: $1" >/dev/console
    /bin/busybox poweroff -f
}

case $(/bin/busybox cat /proc/cmdline) in
*lab.probe*)
    echo "lab: probe passed" >/dev/console
    /bin/busybox poweroff -f
    ;;
esac

while read -r module; do
    /bin/busybox insmod "/modules.d/$module" || fail "cannot load $module"
done </modules

/bin/busybox mount -t ext4 -o ro /dev/vda /lower || fail "cannot mount the root image"
/bin/busybox mount -t tmpfs -o size=75% upper /upper || fail "cannot mount a tmpfs"
/bin/busybox mkdir /upper/data /upper/work
/bin/busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /root ||
    fail "cannot mount the overlay"
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /usr/sbin/init
fail "cannot start init"
