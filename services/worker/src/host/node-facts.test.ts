import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { NodeConfig } from "@hearth/cluster";
import type { NodeFact } from "@hearth/machine";
import { createLogger } from "@hearth/telemetry";
import { NodeFacts, noLoad } from "./node-facts.ts";

test("what placement goes by is said again at once when it changes, also while it is said", async () => {
  const said: NodeFact[] = [];
  let problems = ["images: it does not answer"];
  let asked: () => void = () => undefined;
  const facts = new NodeFacts({
    config: {
      ...{ node_id: "n1", region: "local", data_dir: "/", accelerator: "tcg", warnings: [] },
      capacity: { cpus: 1, memory_mb: 1_024 },
    } as unknown as NodeConfig,
    facts: {
      publish: async (_key, value) => {
        said.push(value as NodeFact);
        asked();
        return said.length;
      },
    },
    clock: { nowMs: () => 0, sleep: async (ms, signal) => await delay(ms, undefined, { signal }) },
    logger: createLogger("test", {}, { destination: { write: () => undefined } }),
    everyMs: 3_600_000,
    load: () => noLoad,
    problems: () => [],
    services: () => ({ problems, warnings: [] }),
    restatement: { look: async () => undefined, restated: undefined },
  });
  const untilSaid = async (count: number) => {
    while (said.length < count) await new Promise<void>((resolve) => (asked = resolve));
  };
  facts.start();
  try {
    await untilSaid(1);
    assert.deepEqual(said[0]?.problems, problems);
    problems = [];
    facts.soon();
    await untilSaid(2);
    assert.equal(said[1]?.problems, undefined);
    asked = () => {
      asked = () => undefined;
      facts.soon();
    };
    facts.soon();
    while (said.length < 4) await delay(1);
  } finally {
    asked = () => undefined;
    await facts.stop();
  }
});
