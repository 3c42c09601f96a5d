#!/bin/bash
# Runs a command in what a unit's sandbox leaves of the machine, without systemd:
#   sandbox.sh WRITABLE CAPABILITIES COMMAND…
# in a mount namespace of its own, which the caller has made. WRITABLE are folders, CAPABILITIES as
# setpriv takes them. What systemd does by seccomp is not in here.
set -eu
writable=$1 capabilities=$2
shift 2

mount --make-rprivate /

# Each is a mount of its own, and so stays writable when what it is on does not.
for path in $writable; do
	mount --bind "$path" "$path"
done

# PrivateTmp and PrivateDevices.
for path in /tmp /var/tmp; do
	mount -t tmpfs -o mode=1777 tmpfs "$path"
done
mkdir /tmp/dev
mount -t tmpfs -o mode=755 tmpfs /tmp/dev
for node in null zero full random urandom tty; do
	touch "/tmp/dev/$node"
	mount --bind "/dev/$node" "/tmp/dev/$node"
done
ln -s /proc/self/fd /tmp/dev/fd
mount --move /tmp/dev /dev
rmdir /tmp/dev

# ProtectHome, and what ProtectKernelModules hides.
for path in /home /root /run/user /usr/lib/modules; do
	[ ! -d "$path" ] || mount -t tmpfs -o ro,mode=000 tmpfs "$path"
done

# ProtectProc=invisible.
mount -t proc -o hidepid=invisible proc /proc

# ProtectSystem=strict: all but the kernel's own file systems.
points=$(awk '{ print $5 }' /proc/self/mountinfo)
for point in $points; do
	case " $writable /tmp /var/tmp " in
	*" $point "*) continue ;;
	esac
	case $point in
	/dev | /dev/* | /proc | /proc/* | /sys | /sys/* | /run/netns/*) continue ;;
	esac
	# What another mount hides is out of reach already.
	! mountpoint -q "$point" || mount -o remount,bind,ro "$point"
done

cd /
umask 077
exec setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all \
	--bounding-set="-all,$capabilities" "$@"
