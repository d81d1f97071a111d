/**
 * Lets requests end before the machine that serves them does.
 *
 * The record says already that the machine goes (stopping, replacing, starting again, destroying). This step waits
 * until the stream has that fact, gives the doors of the region the time in which they hear of it, and then until no
 * door has a connection to a service of the machine. That is asked of the guest's kernel and not of the doors: a door
 * that hears that a machine goes closes its idle connections to it, so what is left is at work, and whoever counts
 * needs to know neither how many doors there are nor what protocol they speak.
 *
 * The wait has a limit, and a machine that no door serves has none: requests that outlast it are cut off, as before.
 */
import { HearthError } from "@hearth/errors";
import type { MachineConfig } from "@hearth/machine";
import { type ClusterPrefix, parseMachineAddress } from "@hearth/network";
import type { LiveMachine } from "../machines/live-machine.ts";
import { stopPlan } from "../machines/machine-program.ts";
import type { MachineRow } from "../machines/machine-row.ts";
import type { Clock } from "../worker-deps.ts";
import type { MachineStep, RunParts } from "./run-parts.ts";
import type { StepLimits } from "./step-limits.ts";

/** `quiet` is what is hoped for; the rest says why the wait ended without it. */
export type QuietOutcome = "quiet" | "over" | "untold" | "unanswered" | "busy";

export interface QuietWait {
  readonly clock: Clock;
  readonly limits: Pick<StepLimits, "trafficToldMs" | "trafficSettleMs" | "trafficLookMs" | "trafficAskMs">;
  readonly limitMs: number;
  /** The fact that says that the machine goes has been taken. */
  readonly isTold: () => boolean;
  /** Connections of doors to the machine. */
  readonly connections: (signal: AbortSignal) => Promise<number>;
  /** The program, or its VM, has ended by itself. */
  readonly over: Promise<unknown>;
  readonly signal: AbortSignal;
}

/** @throws what `signal` says when it aborts */
export async function untilQuiet(wait: QuietWait): Promise<QuietOutcome> {
  const { clock, limits, limitMs, signal } = wait;
  const done = new AbortController();
  const inner = AbortSignal.any([signal, done.signal]);
  let ended: QuietOutcome | undefined;
  const end = (outcome: QuietOutcome) => (): void => {
    ended ??= outcome;
    done.abort();
  };
  clock.sleep(limitMs, inner).then(end("busy"), () => undefined);
  void wait.over.then(end("over"));
  const pause = (ms: number) => clock.sleep(ms, inner).catch(() => undefined);
  try {
    let untoldMs = 0;
    while (ended === undefined && !signal.aborted && !wait.isTold()) {
      // Doors that cannot hear that it goes will not stop sending, however long it waits.
      if (untoldMs >= limits.trafficToldMs) return "untold";
      await pause(limits.trafficLookMs);
      untoldMs += limits.trafficLookMs;
    }
    await pause(limits.trafficSettleMs);
    while (ended === undefined && !signal.aborted) {
      const count = await asked(wait, inner);
      if (count === undefined) ended ??= "unanswered";
      else if (count === 0) return "quiet";
      else await pause(limits.trafficLookMs);
    }
    signal.throwIfAborted();
    return ended ?? "busy";
  } finally {
    done.abort();
  }
}

/** Undefined when the guest does not say. */
async function asked({ clock, limits, connections }: QuietWait, signal: AbortSignal) {
  const limit = new AbortController();
  const inner = AbortSignal.any([signal, limit.signal]);
  const late = clock.sleep(limits.trafficAskMs, inner).then(
    () => limit.abort(new HearthError("deadline_exceeded")),
    () => undefined,
  );
  const count = connections(inner).catch(() => undefined);
  const first = await Promise.race([count, late.then(() => undefined)]);
  limit.abort();
  return first;
}

/** The ports that doors connect to: of the version that runs, and of the one that follows it. */
export function servedPorts({ config, rollback }: Pick<MachineRow, "config" | "rollback">): Set<number> {
  const ports = new Set<number>();
  const add = ({ services = [] }: MachineConfig): void => {
    for (const { internal_port, protocol = "tcp", ports: open = [] } of services)
      if (internal_port !== undefined && protocol === "tcp" && open.length > 0) ports.add(internal_port);
  };
  add(config);
  if (rollback?.kind === "to") add(rollback.config);
  return ports;
}

/** States of linux/tcp_states.h in which something may still be on its way from the guest or to it. */
const busyStates: ReadonlySet<string> = new Set([
  "01", // established
  "03", // being established
  "04", // closed by the guest, and not all of it taken
  "08", // closed by the door, as raw TCP may be while it waits for the rest
  "09",
  "0B",
  "0C",
]);
const row = /^\s*\d+:\s+[0-9A-F]{32}:([0-9A-F]{4})\s+([0-9A-F]{32}):[0-9A-F]{4}\s+([0-9A-F]{2})\s/;

/**
 * How many connections of others than machines a table of sockets has at these ports.
 * @param table what /proc/net/tcp6 says (proc_net_tcp(5)), on a machine of little-endian words
 */
export function doorConnections(table: string, ports: ReadonlySet<number>, prefix: ClusterPrefix): number {
  let count = 0;
  for (const line of table.split("\n")) {
    const [, port = "", peer = "", state = ""] = row.exec(line) ?? [];
    if (!busyStates.has(state) || !ports.has(Number.parseInt(port, 16))) continue;
    const from = parseMachineAddress(addressOf(peer));
    // Machines talk to each other past the doors, and may keep a connection for as long as both live.
    if (from.prefix === prefix && from.network !== 0) continue;
    count += 1;
  }
  return count;
}

/** Four words of 32 bits, each with its bytes reversed. */
function addressOf(hex: string): string {
  const bytes = Buffer.from(hex, "hex");
  bytes.swap32();
  return bytes.toString("hex").replace(/(.{4})(?=.)/g, "$1:");
}

/** Of what the guest says here, so much is read: about ten thousand sockets. */
const maxTableBytes = 2 * 1024 * 1024;

async function guestSockets(live: LiveMachine, signal: AbortSignal): Promise<string> {
  return await live.call(async (client, limit) => {
    const chunks: Uint8Array[] = [];
    const request = { path: "/proc/net/tcp6", limit: BigInt(maxTableBytes) };
    for await (const { data } of client.readFile(request, { signal: limit })) chunks.push(data);
    return Buffer.concat(chunks).toString("latin1");
  }, signal);
}

/** How long the requests of a machine may go on; 0 when nothing is waited for. */
export function drainLimitMs(row: MachineRow, limits: Pick<StepLimits, "trafficDrainMs">): number {
  if (row.stop?.force === true || servedPorts(row).size === 0) return 0;
  return Math.min(stopPlan(row, row.stop ?? {}).timeoutMs, limits.trafficDrainMs);
}

export function trafficDrainStep(parts: RunParts, planned: MachineRow): MachineStep {
  const { limits, clock, identity, outbox, logger } = parts;
  const act: MachineStep["do"] = async ({ machineId }, { signal }) => {
    const found = parts.store.get(machineId);
    const live = parts.live.get(machineId);
    const limitMs = drainLimitMs(found, limits);
    const runs = live !== undefined && live.exit === undefined && found.exit === null;
    if (limitMs === 0 || !runs) return { kind: "done" };
    const mark = outbox.mark;
    const ports = servedPorts(found);
    const outcome = await untilQuiet({
      ...{ clock, limits, limitMs, signal, over: live.over },
      isTold: () => outbox.isSent(mark),
      connections: async (limit) => doorConnections(await guestSockets(live, limit), ports, identity.prefix),
    });
    if (outcome !== "quiet") logger.info({ machine_id: machineId, outcome }, "its requests did not all end");
    return { kind: "done" };
  };
  return {
    name: "traffic-drain",
    limitMs: drainLimitMs(planned, limits) + limits.trafficToldMs + limits.trafficSettleMs + limits.abandonMs,
    maxAttempts: 5,
    inspect: async () => false,
    do: act,
    undo: async () => undefined,
  };
}
