#!/bin/busybox sh
# The first process of the guest. Its console is the serial port: commands come in as lines, and what it says goes out as
# lines that begin with "guest: ".
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
stty -echo
say() { echo "guest: $*"; }

for module in $(cat /modules/order); do
  insmod /modules/$module.ko || say "failed insmod $module"
done
# The driver finds the disk while its module loads, but its device node may come a moment later.
until [ -b /dev/vda ]; do usleep 1000; done

. /writer.sh

# What came before this moment may have been lost.
say ready
while read -r verb argument; do
  case $verb in
    mount)
      mkdir -p /mnt
      if mount -t ext4 -o "$argument" /dev/vda /mnt; then say mounted; else say failed mount; fi
      ;;
    write) writer "$argument" & ;;
    quiet)
      # The writer ends its step, and everything is on the disk.
      : >/stop
      wait
      rm /stop
      sync
      say quiet
      ;;
    trim) fstrim /mnt && say trimmed ;;
    ping) say "pong $argument" ;;
    stop)
      : >/stop
      wait
      umount /mnt && say unmounted
      reboot -f
      ;;
  esac
done
