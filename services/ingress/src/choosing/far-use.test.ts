import assert from "node:assert/strict";
import { test } from "node:test";
import { maxUsedMachines } from "@hearth/machine";
import { RouteTable } from "../routes/route-table.ts";
import { Targets } from "../routes/targets.ts";
import { machineId, memoryReplica, webService } from "../testing/facts.ts";
import { FarUse } from "./far-use.ts";

function doorOf(tell: (nodeId: string, ids: readonly string[]) => Promise<void>) {
  const memory = memoryReplica();
  const table = new RouteTable(memory.replica);
  const loads = new Targets(table, "example.test");
  const failures: string[] = [];
  const log = (_fields: object, text: string) => void failures.push(text);
  return { ...memory, loads, failures, use: new FarUse({ nodeId: "n1", table, loads, tell, log }) };
}

test("another host is told which of its machines are in use from here, and again while they are", async () => {
  const told: string[] = [];
  const { put, loads, use } = doorOf(async (node, ids) => void told.push(`${node} ${ids}`));
  for (const [node, number] of [
    ["n1", 1],
    ["n2", 2],
    ["n3", 3],
  ] as const)
    put({ node, id: machineId(number), services: [webService(80)] });
  const [, busy, quiet] = [1, 2, 3].map((number) => loads.loadOf(machineId(number), 80));
  assert.ok(busy && quiet);
  busy.active = 1;
  const word = (number: number) => `n${number} ${machineId(number)}`;
  await use.tell();
  assert.deepEqual(told.splice(0), [word(2), word(3)]);
  await use.tell();
  assert.deepEqual(told.splice(0), [word(2)], "it has something to do still");
  busy.active = 0;
  await use.tell();
  assert.deepEqual(told, []);
  quiet.busyMs = performance.now();
  await use.tell();
  assert.deepEqual(told, [word(3)], "it had something to do between");
});

test("what another host could not be told is told with the next word, and all of it in messages of a size", async () => {
  let isDown = true;
  const told: number[] = [];
  const { put, loads, use, failures } = doorOf(async (_node, ids) => {
    if (isDown) throw new Error("no bus");
    told.push(ids.length);
  });
  for (let number = 1; number <= maxUsedMachines + 1; number += 1) {
    put({ node: "n2", id: machineId(number), services: [webService(80)] });
    loads.loadOf(machineId(number), 80);
  }
  await use.tell();
  assert.equal(failures.length, 1);
  isDown = false;
  await use.tell();
  assert.deepEqual(told, [maxUsedMachines, 1]);
});

test("what another host says of machines counts for those of this one", () => {
  const { put, loads, use } = doorOf(async () => undefined);
  put({ node: "n1", id: machineId(1), services: [webService(80), webService(81)] });
  put({ node: "n2", id: machineId(2), services: [webService(80)] });
  const own = [80, 81].map((port) => loads.loadOf(machineId(1), port));
  const far = loads.loadOf(machineId(2), 80);
  for (const load of [...own, far]) load.busyMs = 1;
  use.heard([machineId(1), machineId(2), machineId(3)]);
  assert.deepEqual(
    [...own, far].map(({ busyMs }) => busyMs > 1),
    [true, true, false],
  );
});
