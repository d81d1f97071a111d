import assert from "node:assert/strict";
import { test } from "node:test";
import type { NodeFact } from "@hearth/machine";
import { rankNodes } from "./placement.ts";

const nodeOf = (id: string, changes: Partial<NodeFact> = {}) => ({
  node: { node_id: id, region: "local", free_memory_mb: 4096, total_memory_mb: 8192, ...changes } as NodeFact,
  ageMs: 0,
  machinesOfApp: 0,
});

test("a node with a problem takes no machine, and the refusal says which", () => {
  const nodes = [nodeOf("well"), nodeOf("ill", { problems: ["Its database cannot be written."] })];
  const { candidates, refused } = rankNodes(nodes, { region: undefined, memoryMb: 256, cpus: 1 }, 1_000);
  assert.deepEqual(
    candidates.map(({ node_id }) => node_id),
    ["well"],
  );
  assert.deepEqual(refused, [
    { node_id: "ill", code: "problem", reason: "takes no work: Its database cannot be written." },
  ]);
});
