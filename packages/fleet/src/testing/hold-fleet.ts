/** A process that makes a fleet with something of every kind in it, says what, and stays until it is killed. */
import { readlinkSync } from "node:fs";
import { Fleet } from "../fleet.ts";

const fleet = await Fleet.powerOn(2);
const [host, other] = fleet.hosts;
if (host === undefined || other === undefined) throw new Error("no hosts");
const leave = [
  "ip tuntap add dev tap0 mode tap && ip link set dev tap0 up",
  "nft add table inet left_behind",
  "mount -t tmpfs tmpfs /mnt",
  // In a session of its own, with its output closed, and deaf to what it may ignore: nothing but a kill ends it.
  "(trap '' HUP TERM INT PIPE; setsid sleep 1000 </dev/null >/dev/null 2>&1 &)",
];
for (const one of fleet.hosts) {
  const { code, stderr } = await one.run(["bash", "-euc", leave.join("\n")]);
  if (code !== 0) throw new Error(stderr);
}
await fleet.isolate(other);
await fleet.latency(host, 20);
const pids = fleet.hosts.flatMap((one) => one.processes().map(({ pid }) => pid));
const kinds = ["net", "mnt", "pid", "uts"];
const namespaces = [
  ...new Set(pids.flatMap((pid) => kinds.map((kind) => readlinkSync(`/proc/${pid}/ns/${kind}`)))),
];
console.log(JSON.stringify({ name: fleet.name, directory: fleet.directory, pids, namespaces }));
setInterval(() => undefined, 1_000);
