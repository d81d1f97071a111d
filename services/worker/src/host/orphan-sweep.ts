/**
 * Takes away what carries our name on this host and is in no ledger. It looks from time to time, acts only on what
 * it has seen for the whole of a grace period, and says what it took. What is not named as ours it never sees; what
 * is of a machine that something is being done to, it leaves alone.
 */
import { execFile } from "node:child_process";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Difference, DifferenceKind, Inspection } from "@hearth/machine";
import type { FirewallElement, NetworkExecutor } from "@hearth/network";
import { BackgroundLoop } from "@hearth/process";
import type { Logger } from "@hearth/telemetry";
import type { Clock } from "../worker-deps.ts";
import { endProcess, guardProcesses, removeInterface, vmmProcesses } from "./host-leftovers.ts";
import type { HostPaths } from "./host-paths.ts";

export interface OrphanSweepDeps {
  readonly nodeId: string;
  readonly paths: HostPaths;
  readonly network: Pick<NetworkExecutor, "removeElements">;
  readonly inspect: () => Promise<Inspection>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly everyMs: number;
  readonly graceMs: number;
}

const run = promisify(execFile);
const commandLimitMs = 10_000;

/**
 * Sockets go with their directory. Control groups, mounts and loop devices are never made by this worker, so one
 * that bears its name is for a person to look at: `hearth doctor --deep` shows it.
 */
const removable: ReadonlySet<DifferenceKind> = new Set([
  "process",
  "guard",
  "namespace",
  "interface",
  "firewall-element",
  "run-directory",
  "machine-directory",
  "disk",
]);

export class OrphanSweep {
  readonly #deps: OrphanSweepDeps;
  readonly #loop = new BackgroundLoop((signal) => this.#run(signal));
  readonly #seenSince = new Map<string, number>();

  constructor(deps: OrphanSweepDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, everyMs, logger } = this.#deps;
    while (!signal.aborted) {
      await clock.sleep(everyMs, signal).catch(() => undefined);
      if (signal.aborted) return;
      try {
        await this.sweep();
      } catch (error) {
        logger.warn({ err: error }, "the host could not be looked at for what nobody owns");
      }
    }
  }

  /** One look. Answers what was taken away. */
  async sweep(): Promise<readonly Difference[]> {
    const { inspect, clock, graceMs, logger } = this.#deps;
    const { differences } = await inspect();
    const found = differences.filter(
      ({ kind, problem, pending }) => problem === "unexpected" && !pending && removable.has(kind),
    );
    const keys = new Set(found.map(keyOf));
    for (const key of this.#seenSince.keys()) if (!keys.has(key)) this.#seenSince.delete(key);
    const removed: Difference[] = [];
    for (const one of found) {
      const since = this.#seenSince.get(keyOf(one));
      if (since === undefined) this.#seenSince.set(keyOf(one), clock.nowMs());
      if (clock.nowMs() - (since ?? clock.nowMs()) < graceMs) continue;
      try {
        await this.#remove(one);
        this.#seenSince.delete(keyOf(one));
        removed.push(one);
        logger.warn({ ...one, graceMs }, "what no ledger has was taken away");
      } catch (error) {
        logger.error({ err: error, ...one }, "what no ledger has could not be taken away");
      }
    }
    return removed;
  }

  async #remove({ kind, key }: Difference): Promise<void> {
    const { nodeId, paths, network } = this.#deps;
    switch (kind) {
      case "process": {
        // Found again by its number, so that a stranger who got the number since is not taken for it.
        const process = (await vmmProcesses(paths.runs)).find(({ pid }) => String(pid) === key);
        if (process !== undefined) await endProcess(process);
        return;
      }
      case "guard": {
        const guard = (await guardProcesses(paths.runs)).find(({ pid }) => String(pid) === key);
        if (guard !== undefined) await endProcess(guard);
        return;
      }
      case "namespace":
        await run("ip", ["netns", "del", key], { timeout: commandLimitMs });
        return;
      case "interface":
        return await removeInterface(key);
      case "firewall-element": {
        const [set = "", ...value] = key.split(" ");
        const element = { set: set as FirewallElement["set"], value: value.join(" ") };
        return await network.removeElements(nodeId, [element]);
      }
      case "run-directory":
        return await rm(join(paths.runs, key), { recursive: true, force: true });
      case "machine-directory":
        return await rm(join(paths.machines, key), { recursive: true, force: true });
      case "disk":
        return await rm(key, { force: true });
      default:
        return;
    }
  }
}

const keyOf = ({ kind, key }: Difference): string => `${kind} ${key}`;
