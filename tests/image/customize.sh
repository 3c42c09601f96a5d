#!/bin/sh
# Makes a Debian tree into the lab's guest. Run by mmdebstrap as root, beside the other files of
# this folder: customize.sh ROOT. Leaves the kernel, unpacked, as ROOT/boot/vmlinux.
set -eu

root=$1
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The kernel is unpacked, never installed: its scripts would build an initramfs that nobody boots.
# Not the cloud kernel: that one has no igb, igbvf and 9p.
kernel=$(chroot "$root" apt-cache depends linux-image-amd64 |
    sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
[ -n "$kernel" ] || { echo "customize.sh: linux-image-amd64 depends on no kernel" >&2; exit 1; }
chroot "$root" sh -c "cd /root && apt-get download -q '$kernel'"
dpkg-deb -x "$root"/root/linux-image-*.deb "$work"
ln -s usr/lib "$work/lib" # where depmod looks
rm "$root"/root/linux-image-*.deb

release=${kernel#linux-image-}

# The kernel without its own unpacker, which takes an emulated processor 6 s. Offsets as in the
# kernel's documentation, arch/x86/boot: setup_sects, payload_offset and payload_length; the
# payload ends in four bytes that hold its unpacked length.
packed=$work/boot/vmlinuz-$release
number() { od -An -t "u$2" -j "$1" -N "$2" "$packed" | tr -d ' '; }
start=$((($(number 497 1) + 1) * 512 + $(number 584 4)))
tail -c "+$((start + 1))" "$packed" | head -c "$(($(number 588 4) - 4))" |
    zstd -q -d -o "$root/boot/vmlinux"

from=$work/usr/lib/modules/$release
to=$root/usr/lib/modules/$release
mkdir -p "$to"
cp "$from"/modules.order "$from"/modules.builtin* "$to/"
depmod -b "$work" "$release"
grep -v '^#' "$here/modules.keep" | sed 's|^|kernel/|; s|[^/]$|&.ko|' >"$work/keep"
# A line of modules.dep is "module: everything it needs".
awk 'NR == FNR { keep[$0]; next }
     { for (prefix in keep) if (index($1, prefix) == 1) { gsub(":", ""); $1 = $1; print; break } }' \
    "$work/keep" "$from/modules.dep" | tr ' ' '\n' | sort -u >"$work/modules"
tar -C "$from" -T "$work/modules" -c | tar -C "$to" -x
# Plain modules: the guest's processor is emulated, and unpacking would be its work.
find "$to" -name '*.ko.xz' -print0 | xargs -0 -n 64 -P 2 xz -d
depmod -b "$root" "$release"

# Init is busybox's: it reaps, keeps the runner alive, and starts within a second.
ln -sf /usr/bin/busybox "$root/usr/sbin/init"
install -m 644 "$here/inittab" "$root/etc/inittab"
install -D -m 755 "$here/setup.sh" "$root/usr/lib/lab/setup.sh"
install -D -m 755 "$here/agent.sh" "$root/usr/lib/lab/agent.sh"
echo lab >"$root/etc/hostname"
printf '127.0.0.1 localhost lab\n::1 localhost lab\n' >"$root/etc/hosts"
rm -f "$root/etc/resolv.conf"
mkdir -p "$root/share"

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/log/*.log
