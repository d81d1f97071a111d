/**
 * A slow cable: what goes through it, either way, waits for the end of the interval in which it came, so each packet
 * waits up to that long and half of it on average, and none overtakes another.
 *
 * The kernel's own means for this (the queueing discipline netem) is a module that small kernels are built without.
 * QEMU forwards packets between two taps with such a filter and no machine behind it, and is on every host.
 */
import { join } from "node:path";
import type { NamespaceSet } from "./namespace-set.ts";
import { must, run } from "./run-command.ts";

/** Interfaces of the switch beside the port itself. */
const names = (port: string) => ({ bridge: `${port}-b`, near: `${port}-n`, far: `${port}-f` });

/** What the port is on while its cable is slow. */
export const slowBridge = (port: string): string => names(port).bridge;

const pidPath = (directory: string, port: string): string => join(directory, `${port}.delay`);

export async function addDelayLink(
  switchSpace: NamespaceSet,
  { directory, port, upToMs }: { readonly directory: string; readonly port: string; readonly upToMs: number },
): Promise<void> {
  const { bridge, near, far } = names(port);
  const commands = [
    `link add ${bridge} type bridge`,
    `link set dev ${bridge} up`,
    `tuntap add dev ${near} mode tap`,
    `tuntap add dev ${far} mode tap`,
    `link set dev ${near} master ${bridge} up`,
    `link set dev ${far} master underlay up`,
    `link set dev ${port} master ${bridge} up`,
  ];
  await must(switchSpace.inNetwork(["ip", "-batch", "-"]), { input: `${commands.join("\n")}\n` });
  const tap = (id: string, name: string) => [
    "-netdev",
    `tap,id=${id},ifname=${name},script=no,downscript=no`,
  ];
  const hub = (id: string, of: string) => ["-netdev", `hubport,id=${id},hubid=0,netdev=${of}`];
  const filter = `filter-buffer,id=delay,netdev=near,interval=${upToMs * 1000},queue=all`;
  await must(
    switchSpace.inside([
      ...["qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none", "-monitor", "none"],
      ...[...tap("near", near), ...tap("far", far), ...hub("hub-near", "near"), ...hub("hub-far", "far")],
      ...["-object", filter, "-daemonize", "-pidfile", pidPath(directory, port)],
    ]),
  );
}

/** Whether there is one or not. */
export async function removeDelayLink(
  switchSpace: NamespaceSet,
  directory: string,
  port: string,
): Promise<void> {
  const { bridge, near, far } = names(port);
  // The cable of a host that is lost is no longer there.
  await run(switchSpace.inNetwork(["ip", "link", "set", "dev", port, "master", "underlay"]));
  await run(switchSpace.inside(["sh", "-c", 'kill -KILL "$(cat "$1")"', "sh", pidPath(directory, port)]));
  for (const name of [near, far, bridge])
    await run(switchSpace.inNetwork(["ip", "link", "del", "dev", name]));
}
