/** The ranking of nodes and its words, as people read them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { NodeFact } from "@hearth/machine";
import {
  type Considered,
  type NodeView,
  noCapacity,
  type PlacementRequest,
  placementReport,
  rankNodes,
} from "./placement.ts";

const limitMs = 15_000;
const anywhere: PlacementRequest = { region: undefined, memoryMb: 256, cpus: 1 };
type Changes = Partial<NodeFact> & Partial<Pick<NodeView, "ageMs" | "policy" | "machinesOfApp">>;

function nodeOf(id: string, { ageMs = 0, policy, machinesOfApp = 0, ...fact }: Changes = {}): NodeView {
  const node = { node_id: id, region: "local", free_memory_mb: 4096, total_memory_mb: 8192, ...fact };
  return { node: node as NodeFact, ageMs, policy, machinesOfApp };
}

const order = (nodes: readonly NodeView[], request: Partial<PlacementRequest> = {}): string[] =>
  rankNodes(nodes, { ...anywhere, ...request }, limitMs).candidates.map(({ node_id }) => node_id);

test("an app is spread, then the image draws, then the tightest fit wins, then the id", () => {
  const nodes = [
    nodeOf("roomy", { free_memory_mb: 8000 }),
    nodeOf("tight", { free_memory_mb: 512 }),
    nodeOf("b-same", { free_memory_mb: 900 }),
    nodeOf("a-same", { free_memory_mb: 900 }),
    nodeOf("imaged", { free_memory_mb: 7000, images: ["web:1"] }),
    nodeOf("two", { free_memory_mb: 300, machinesOfApp: 2, images: ["web:1"] }),
    nodeOf("one", { free_memory_mb: 6000, machinesOfApp: 1 }),
  ];
  assert.deepEqual(order(nodes, { image: "web:1" }), [
    ...["imaged", "tight", "a-same", "b-same", "roomy"],
    ...["one", "two"],
  ]);
  assert.deepEqual(order(nodes, { image: "web:1", antiAffinity: true }), [
    ...["imaged", "tight", "a-same", "b-same", "roomy"],
  ]);
});

test("each node that is passed over has its own reason", () => {
  const nodes = [
    nodeOf("abroad", { region: "fra" }),
    nodeOf("silent", { ageMs: 20_400 }),
    nodeOf("unheard", { ageMs: Number.POSITIVE_INFINITY }),
    nodeOf("ill", { problems: ["Its database cannot be written."] }),
    nodeOf("drained", { policy: { cordoned: true, draining: true } }),
    nodeOf("cordoned", { policy: { cordoned: true, draining: false } }),
    nodeOf("bare", { labels: { disk: "ssd" } }),
    nodeOf("full", { free_memory_mb: 100, labels: { disk: "nvme" } }),
    nodeOf("busy", { free_cpus: 0, labels: { disk: "nvme" } }),
    nodeOf("has-one", { machinesOfApp: 1, labels: { disk: "nvme" } }),
    nodeOf("well", { labels: { disk: "nvme" } }),
  ];
  const request = { ...anywhere, region: "local", labels: { disk: "nvme" }, antiAffinity: true };
  const { candidates, refused } = rankNodes(nodes, request, limitMs);
  assert.deepEqual(
    candidates.map(({ node_id }) => node_id),
    ["well"],
  );
  assert.deepEqual(
    refused.map(({ node_id, code, reason }) => `${node_id} ${code}: ${reason}`),
    [
      "abroad region: is in region fra",
      "silent not_heard: was last heard 20 s ago",
      "unheard not_heard: was not heard since this API process began",
      "ill problem: takes no work: Its database cannot be written.",
      "drained draining: is being drained",
      "cordoned cordoned: is cordoned",
      "bare labels: has not the label disk=nvme",
      "full memory: has 100 MB free of 8192; 256 MB are asked for",
      "busy cpus: has 0 virtual CPUs free; 1 are asked for",
      "has-one anti_affinity: has 1 of the app's machines already",
    ],
  );
});

test("an account names twenty nodes at most and counts all", () => {
  const others = Array.from(
    { length: 50 },
    (_, at): Considered => ({ node_id: `n${at}`, code: at < 30 ? "memory" : "region", reason: "is so" }),
  );
  const asked: Considered[] = [{ node_id: "x", code: "refused", reason: "refused: full" }];
  const report = placementReport(52, asked, others, "y");
  assert.equal(report.considered.length, 20);
  assert.deepEqual(
    report.considered.slice(0, 2).map(({ node_id, code }) => [node_id, code]),
    [
      ["x", "refused"],
      ["y", "chosen"],
    ],
  );
  assert.deepEqual(report.passed_over, { refused: 1, memory: 30, region: 20 });
  const { message } = noCapacity(anywhere, placementReport(52, asked, others));
  assert.match(
    message,
    /^No node can take a machine of 1 CPUs and 256 MB: x refused: full; .*; and 31 more\./,
  );
  assert.match(noCapacity(anywhere, placementReport(0, [], [])).message, /no node is known/);
  const silent = { node_id: "n1", code: "not_heard", reason: "was last heard 20 s ago" } as const;
  assert.equal(noCapacity(anywhere, placementReport(1, [], [silent])).code, "unavailable");
  const full = { node_id: "n2", code: "memory", reason: "has 0 MB free" } as const;
  assert.equal(noCapacity(anywhere, placementReport(2, [], [silent, full])).code, "insufficient_capacity");
});
