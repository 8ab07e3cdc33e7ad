# What the guest writes, one step after the other. Each thing that a step does is on the disk before the next begins, except
# the deletion, which is there when the next step's first fsync is. So whoever looks at the disk at one instant can say from
# the last line of the log what every file must hold (steps.ts does).
#
# Step n, where `line` is n in 15 digits and a newline, `page` 256 of it:
# It says "begun n", then, of what is done, "filed n", "ringed n", "synced n".
#   1. /files/n, a new file of pages(n) pages, fsync
#   2. page n % 64 of /ring (blocks of 64 KiB, overwritten in place): all of it says n, fsync
#   3. /log: line appended, fsync
#   4. /files/(n - 24) is deleted
writer() {
  n=${1:-0}
  # Where an earlier writer was cut off, its last deletion may be due.
  if [ $n -gt 24 ]; then rm -f /mnt/files/$((n - 24)); fi
  while [ ! -e /stop ]; do
    n=$((n + 1))
    line=$(printf '%015d\n_' $n)
    line=${line%_}
    page=$line
    for _ in 1 2 3 4 5 6 7 8; do page=$page$page; done
    say "begun $n"
    count=$((n * 7 % 13 + 1))
    {
      while [ $count -gt 0 ]; do
        printf %s "$page"
        count=$((count - 1))
      done
    } | dd of=/mnt/files/$n bs=64k iflag=fullblock conv=fsync 2>/dev/null || say "failed file $n"
    say "filed $n"
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do printf %s "$page"; done |
      dd of=/mnt/ring bs=64k iflag=fullblock seek=$((n % 64)) conv=notrunc,fsync 2>/dev/null || say "failed ring $n"
    say "ringed $n"
    printf %s "$line" | dd of=/mnt/log oflag=append conv=notrunc,fsync 2>/dev/null || say "failed log $n"
    say "synced $n"
    if [ $n -gt 24 ]; then rm /mnt/files/$((n - 24)) || say "failed rm $((n - 24))"; fi
  done
}
