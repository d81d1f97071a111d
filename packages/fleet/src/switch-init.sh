# The switch of a fleet: a bridge in namespaces of its own, to which each host is one port. When its standard input
# ends, the process that made the fleet is gone or is done with it; the fleet's files are removed once the hosts are gone.
#
# $1: the directory of the fleet.  $2: a file that each host has locked, shared.
set -euo pipefail
directory=$1
hosts_lock=$2
ip link set lo up
ip link add underlay type bridge
ip link set underlay up
echo ready
exec 3<&0
cat <&3 >/dev/null &
wait $!
flock --exclusive --timeout 60 "$hosts_lock" rm -rf "$directory"
