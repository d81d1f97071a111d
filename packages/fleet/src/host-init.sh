# Process 1 of one host of a fleet, in namespaces of its own. It adopts what services leave behind, and ends, with
# all of the host, when its standard input does.
#
# $1: the host's name.  $2: its directory, with the file boot_id, the empty directory cgroup, and etc/ for what the
# host has in /etc instead of this machine's.
set -euo pipefail
name=$1
directory=$2
hostname "$name"
# /sys shows the network of whoever mounted it, and cgroups live below it.
mount --rbind /sys/fs/cgroup "$directory/cgroup"
umount -l /sys
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount --move "$directory/cgroup" /sys/fs/cgroup
# Namespaces by name are of one host, and those of this machine are none of its business.
umount -lR /run/netns 2>/dev/null || true
mkdir -p /run/netns
mount -t tmpfs -o mode=755 tmpfs /run/netns
mount --bind "$directory/boot_id" /proc/sys/kernel/random/boot_id
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
# Sockets of wireguard-go, of which a host that was lost leaves none to this machine.
mkdir -p /run/wireguard
mount -t tmpfs -o mode=0700 tmpfs /run/wireguard
mount -t overlay -o "lowerdir=$directory/etc:/etc" overlay /etc
ip link set lo up
echo ready
exec 3<&0
cat <&3 >/dev/null &
wait $!
