/**
 * What the network of a machine costs on one host, measured in a network namespace of its own with the members of
 * 1,000 machines in the firewall.
 *
 * claim:      a ready slot is taken from the pool and given the identity of a machine: ledger, addresses, routes,
 *             neighbours, firewall. It is over when the VMM may be started. All are claimed before any is deleted, as
 *             the kernel's work on that delays everything about interfaces.
 * firewall:   the members of one machine are added, in one transaction; and taken away again.
 * policy:     both again with machines that have an egress policy, when all that are present have one too.
 * throughput: one TCP stream between two guests of one network, over Hearth's slots and firewall, against the same
 *             two guests wired by hand: one interface each into the host, routes, no firewall. The guests are network
 *             namespaces, not VMs: an emulated guest is slower than any of this, and would hide it. What stands for
 *             the tap is one end of a pair, which the slot's own wire then carries.
 *
 * The two ways take turns, each first in every other one, and the ratio is the median of the turns' own, so that a host
 * whose speed drifts slows both.
 */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

/** Interfaces, names of namespaces and sysfs are this one's, and go with it. */
const isolate = `mount -t sysfs sysfs /sys && mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns &&
  ip link set lo up && exec "$0" "$@"`;
const limitMs = 600_000;

export async function measureNetwork(runs: number): Promise<Record<string, unknown>> {
  const program = join(import.meta.dirname, "network/inside.ts");
  const { stdout } = await promisify(execFile)(
    "unshare",
    [
      "--net",
      "--mount",
      "--propagation",
      "private",
      "sh",
      "-c",
      isolate,
      process.execPath,
      program,
      `${runs}`,
    ],
    { timeout: limitMs },
  );
  return JSON.parse(stdout) as Record<string, unknown>;
}
