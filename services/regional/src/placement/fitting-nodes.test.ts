import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FittingNodes, type Place } from "./fitting-nodes.ts";

test("what was added and not removed comes in order, from what is asked for", () => {
  const place = fc.record({ free_memory_mb: fc.nat(20), node_id: fc.constantFrom("a", "b", "c", "d", "e") });
  fc.assert(
    fc.property(fc.array(fc.record({ place, adds: fc.boolean() })), fc.nat(25), (steps, least) => {
      const nodes = new FittingNodes<Place>();
      const plain = new Map<string, Place>();
      for (const { place: one, adds } of steps) {
        const key = `${one.free_memory_mb}/${one.node_id}`;
        if (adds && !plain.has(key)) {
          nodes.add(one);
          plain.set(key, one);
        } else if (!adds) {
          nodes.remove(one);
          plain.delete(key);
        }
      }
      const sorted = [...plain.values()].sort(
        (a, b) => a.free_memory_mb - b.free_memory_mb || (a.node_id < b.node_id ? -1 : 1),
      );
      const fit = sorted.filter(({ free_memory_mb }) => free_memory_mb >= least);
      assert.deepEqual([...nodes.from(least)], fit);
      assert.equal(nodes.countBelow(least), sorted.length - fit.length);
    }),
  );
});
