/**
 * Placement in a large region, by simulation: there are facts of hosts and machines and nothing behind them. Real are
 * the nats-server that holds the facts, the replica on disk, and the code that decides, which is the API's own.
 *
 * rebuild_from_stream_s: an empty replica and its indexes, until they have every fact of the stream.
 * rebuild_from_disk_s:   the same from the replica's file, in a new process.
 * placements_per_s:      decisions with the changes that follow (a node's fact and a machine's), in that process.
 * p50_ms, p99_ms:        of one decision.
 * rss_mb:                of that process after the decisions; peak_rss_mb is the most that either process had.
 * baseline_…:            each decision looks at every host, in the same process with the same facts.
 * disagreements:         wishes for which both ways do not choose the same host; 0 unless the index is wrong.
 *
 * Flags: --hosts=N --machines=N --decisions=N.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { connectBus, FactStore, NatsServer } from "@hearth/cluster";
import { freePort, repositoryRoot } from "@hearth/testkit";
import { publishRegion } from "./placement/publish.ts";

const processLimitMs = 1_200_000;
/** A million records are more than the store of one box is given. */
const storeBytes = 16 * 2 ** 30;

export async function measurePlacement(
  _runs: number,
  flags: readonly string[] = [],
): Promise<Record<string, unknown>> {
  const number = (name: string, usual: number): number => {
    const given = flags.find((flag) => flag.startsWith(`--${name}=`))?.slice(name.length + 3);
    const value = given === undefined ? usual : Number(given);
    if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} is a number of at least 1`);
    return value;
  };
  const size = { hosts: number("hosts", 10_000), machines: number("machines", 1_000_000) };
  const decisions = number("decisions", 50_000);
  const scans = Math.min(decisions, 200);
  const parent = join(repositoryRoot, ".hearth");
  mkdirSync(parent, { recursive: true });
  const dir = mkdtempSync(join(parent, "bench-placement-"));
  const login = { user: "bench", pass: "bench" };
  const maxFileStoreBytes = storeBytes;
  const server = new NatsServer({ dir, port: await freePort(), maxFileStoreBytes, ...login });
  try {
    await server.start();
    const begun = performance.now();
    const revision = await publishAll(server.url, login, size);
    const published_s = Math.round((performance.now() - begun) / 100) / 10;
    const task = { nats: { servers: server.url, ...login }, path: join(dir, "replica.sqlite"), revision };
    const shared = { ...task, ...size, decisions, scans };
    const { rebuild_s: rebuild_from_stream_s, peak_rss_mb: streamPeak = 0 } = await inProcess({
      ...shared,
      mode: "stream",
    });
    const { rebuild_s, peak_rss_mb = 0, ...decided } = await inProcess({ ...shared, mode: "disk" });
    return {
      simulation: "facts without hosts or machines behind them",
      ...{ ...size, decisions, published_s, rebuild_from_stream_s, rebuild_from_disk_s: rebuild_s },
      ...decided,
      peak_rss_mb: Math.max(streamPeak, peak_rss_mb),
    };
  } finally {
    await server.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

async function publishAll(
  servers: string,
  login: { readonly user: string; readonly pass: string },
  size: { readonly hosts: number; readonly machines: number },
): Promise<number> {
  const bus = await connectBus({ servers, ...login });
  try {
    return await publishRegion(new FactStore({ bus, timeoutMs: 60_000 }), size);
  } finally {
    await bus.close();
  }
}

function inProcess(task: object): Promise<Record<string, number>> {
  const program = join(import.meta.dirname, "placement/process.ts");
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, JSON.stringify(task)], {
      stdio: ["ignore", "pipe", "inherit"],
      timeout: processLimitMs,
    });
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(JSON.parse(said) as Record<string, number>);
      else reject(new Error(`the measured process ended with ${code}`));
    });
  });
}
