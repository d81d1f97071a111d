/**
 * Deletes the JetStream store of a region under writes, again and again: the bus is killed, its store removed or
 * replaced by the copy of an earlier kill (which is a stream without its end, or one from before the last loss), and
 * the bus is started again. What clients were told must still be so, at every API. Which objects are chosen follows
 * from the seed; when a kill falls among the writes is the host's own timing.
 */
import { setTimeout as delay } from "node:timers/promises";
import { seeded } from "@hearth/worker";
import { Clients } from "./clients.ts";
import { findLost } from "./lost-facts.ts";
import { Region } from "./region.ts";

export interface WipeOptions {
  readonly seed: number;
  readonly writes: number;
  readonly apis?: number;
  readonly nodes?: number;
  readonly clients?: number;
  /** Of writing between two losses, from a random part of it on. */
  readonly everyMs?: number;
  /** Ends after so many, whatever has been written. */
  readonly mostLosses?: number;
  readonly onProgress?: (line: string) => void;
}

export interface WipeResult {
  readonly acknowledged: number;
  readonly lost: number;
  readonly seed: number;
  readonly wipes: number;
  /** Losses in which the store was put back as it had been earlier. */
  readonly shortened: number;
  /** Facts that API processes put back, over all losses. */
  readonly restored: number;
  /** Times that a worker said all its facts again. */
  readonly restated: number;
  readonly refused: number;
  readonly looked: number;
  readonly found: readonly string[];
}

const betweenMs = 3_000;
const sampleShare = 0.05;

export async function runWipeJetstream(options: WipeOptions): Promise<WipeResult> {
  const random = seeded(options.seed);
  const say = options.onProgress ?? (() => undefined);
  await using region = new Region();
  await region.start({ apis: options.apis ?? 2, nodes: options.nodes ?? 2 });
  const clients = new Clients(region.apis, random);
  const writing = clients.run(options.clients ?? 8, options.writes);
  const over = new AbortController();
  void writing.finally(() => over.abort());
  const found: string[] = [];
  const copies: string[] = [];
  let [wipes, shortened, looked] = [0, 0, 0];
  const look = async (share: () => boolean): Promise<void> => {
    const seen = await clients.quietly(() => findLost(region, clients, share));
    looked += seen.looked;
    found.push(...seen.lost);
  };
  try {
    while (!over.signal.aborted && wipes + shortened < (options.mostLosses ?? Number.POSITIVE_INFINITY)) {
      const pauseMs = (options.everyMs ?? betweenMs) * (0.3 + 0.7 * random());
      await delay(pauseMs, undefined, { signal: over.signal }).catch(() => undefined);
      if (over.signal.aborted) break;
      const copy =
        random() < 0.4 ? copies.at(-1 - Math.floor(random() * Math.min(2, copies.length))) : undefined;
      copies.push(await region.loseStore(copy === undefined ? "nothing" : { copy }));
      if (copy === undefined) wipes += 1;
      else shortened += 1;
      await look(() => random() < sampleShare);
      say(
        `${copy === undefined ? "wiped" : "set back"}: ${clients.acknowledged} acknowledged, ${clients.refused} refused, ${found.length} lost`,
      );
    }
    if (!over.signal.aborted && options.mostLosses !== undefined) clients.stop();
  } finally {
    clients.stop();
    await writing;
  }
  await look(() => true);
  const lines = region.apis.flatMap((api) => api.log);
  return {
    acknowledged: clients.acknowledged,
    lost: new Set(found).size,
    seed: options.seed,
    ...{ wipes, shortened, restored: sumOf(lines, "restored"), restated: restatements(region) },
    refused: clients.refused,
    looked,
    found: [...new Set(found)],
  };
}

const sumOf = (lines: readonly string[], name: string): number =>
  lines
    .filter((line) => line.includes("the stream had lost facts"))
    .reduce((sum, line) => sum + Number((JSON.parse(line) as Record<string, unknown>)[name] ?? 0), 0);

const restatements = ({ nodes }: Region): number =>
  nodes.reduce((sum, { log }) => sum + log.split("the stream had lost facts of this node").length - 1, 0);
