#!/bin/sh
# Runs the lab's runner with the environment that jobs start from.
export PATH=/opt/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/frr
export HOME=/root LANG=C.UTF-8 TERM=vt100 XPU_LAB_GUEST=1
cd /
exec /share/sys/lab-guest </dev/null >/dev/console 2>&1
