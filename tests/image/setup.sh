#!/bin/sh
# Once, at boot: what a guest needs before the runner starts. Interfaces, machines and FRR are the
# tests' business.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run
mkdir -p /dev/pts /dev/shm /run/lock /run/netns
# What bash's <(…) stands on; a system with udev has it from there.
ln -s /proc/self/fd /dev/fd
mount -t devpts -o gid=5,mode=620,ptmxmode=666 pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname lab
ip link set lo up

modprobe 9pnet_virtio
options=trans=virtio,version=9p2000.L,msize=1048576,cache=none
mount -t 9p -o "$options" share /share
# The work tree stands where the host has it, so that paths in tests mean the same on both sides.
for word in $(cat /proc/cmdline); do
    case $word in
    lab.tree=*)
        tree=${word#lab.tree=}
        mkdir -p "$tree"
        mount -t 9p -o "ro,$options" tree "$tree"
        ;;
    esac
done
