/**
 * The process that is measured: a replica and the indexes of the API, and nothing else. `stream` builds both from the
 * stream, `disk` from what `stream` left on the disk, and then decides. Prints one line of JSON.
 */

import { connectBus, Replica } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { perMachinePrefixes } from "@hearth/machine";
import { ClusterView } from "@hearth/regional";
import { medianOf } from "../median.ts";
import { byIndex, byScan, decideMany, disagreements, hearAll } from "./decide.ts";

interface Task {
  readonly mode: "stream" | "disk";
  readonly nats: { readonly servers: string; readonly user: string; readonly pass: string };
  readonly path: string;
  readonly hosts: number;
  readonly machines: number;
  readonly revision: number;
  readonly decisions: number;
  readonly scans: number;
}

const rebuildLimitMs = 900_000;
const task = JSON.parse(process.argv[2] ?? "{}") as Task;
const bus = await connectBus({ ...task.nats, name: "placement-bench" });
const clock = performance.now();
const begun = performance.now();
const replica = new Replica({ bus, path: task.path, onDisk: perMachinePrefixes });
replica.start();
const view = new ClusterView(replica, { nowMs: Date.now, monotonicMs: () => clock });
if (task.mode === "stream") await caughtUp();
const rebuildMs = performance.now() - begun;
if (view.machineIndex.size !== task.machines || view.nodeIndex.size !== task.hosts)
  throw new Error(`${view.machineIndex.size} machines and ${view.nodeIndex.size} hosts were found`);
const megabytes = (bytes: number): number => Math.round(bytes / 2 ** 20);
const result: Record<string, number> = { rebuild_s: Math.round(rebuildMs / 100) / 10 };
if (task.mode === "disk") decide();
// In kilobytes, whatever the other figure is in.
result.peak_rss_mb = megabytes(process.resourceUsage().maxRSS * 1024);
process.stdout.write(`${JSON.stringify(result)}\n`);
await replica.stop();
await bus.close();

async function caughtUp(): Promise<void> {
  const limit = AbortSignal.timeout(rebuildLimitMs);
  const key = "placement-bench";
  await replica
    .waitForRevision(key, task.revision, { timeoutMs: rebuildLimitMs, signal: limit })
    .catch((cause: unknown) => {
      throw new HearthError("deadline_exceeded", { message: "The replica did not catch up.", cause });
    });
}

function decide(): void {
  hearAll(view);
  const different = disagreements(view, task, task.scans);
  const { times, ...indexed } = decideMany(view, task, byIndex, task.decisions);
  result.rss_mb = megabytes(process.memoryUsage().rss);
  const scanned = decideMany(view, task, byScan, task.scans);
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  const round = (ms: number): number => Math.round(ms * 1000) / 1000;
  result.placements_per_s = Math.round(indexed.perSecond);
  result.placed = indexed.placed;
  result.refused = indexed.refused;
  result.p50_ms = round(at(0.5));
  result.p99_ms = round(at(0.99));
  result.max_ms = round(at(1));
  result.baseline_placements_per_s = Math.round(scanned.perSecond);
  result.baseline_p50_ms = medianOf(scanned.times, 3);
  result.disagreements = different;
}
