import assert from "node:assert/strict";
import { test } from "node:test";
import type { LoadEntry, LoadReport } from "@hearth/cluster";
import { choosePlace, type LoadedPlace } from "./choose-place.ts";
import { noOtherLoads } from "./other-loads.ts";
import { SharedLoads } from "./shared-loads.ts";

function start(heard: (entry: LoadEntry) => void = () => undefined) {
  let nowMs = 0;
  const loads = new SharedLoads({ heard, nowMs: () => nowMs });
  return {
    loads,
    sleep: (ms: number) => {
      nowMs += ms;
    },
  };
}

const says = (...loads: LoadEntry[]): LoadReport => ({ whole: false, loads });
const all = (...loads: LoadEntry[]): LoadReport => ({ whole: true, loads });

test("what others have is theirs together, without this process, by service and by machine", () => {
  const { loads } = start();
  loads.own("m1", 80, 5);
  loads.take("door:1", says(["m1", 80, 2], ["m1", 81, 1]));
  loads.take("host:n2", says(["m1", 80, 3]));
  assert.equal(loads.of("m1", 80), 5);
  assert.equal(loads.of("m1"), 6);
  loads.take("door:1", says(["m1", 80, 0]));
  assert.equal(loads.of("m1", 80), 3);
  assert.equal(loads.of("m2", 80), 0);
});

test("a source that says all there is has nothing else any more", () => {
  const { loads } = start();
  loads.take("host:n2", says(["m1", 80, 3], ["m2", 80, 4]));
  loads.take("host:n2", all(["m2", 80, 1]));
  assert.deepEqual([loads.of("m1"), loads.of("m2")], [0, 1]);
});

test("a source that has gone, or was silent for its lease, counts no more; others go on", () => {
  const { loads, sleep } = start();
  loads.take("door:1", says(["m1", 80, 1]));
  loads.take("host:n2", says(["m1", 80, 10]));
  loads.take("host:n3", says(["m1", 80, 100]));
  const isHost = (source: string): boolean => source.startsWith("host:");
  sleep(900);
  loads.take("host:n3", all(["m1", 80, 100]));
  sleep(200);
  assert.deepEqual(loads.expire(1_000, isHost), ["host:n2"]);
  assert.equal(loads.of("m1"), 101);
  loads.forget("door:1");
  assert.equal(loads.of("m1"), 100);
});

test("each receiver is told in one piece what has changed, without its own and what it does not hear", async () => {
  const { loads } = start();
  const told: Record<string, LoadReport[]> = { bus: [], door: [] };
  const heard = Promise.withResolvers<void>();
  const receive = (name: string, hears: (source: string) => boolean): void =>
    loads.addReceiver({
      ...{ name: name === "door" ? "door:1" : name, pauseMs: 5, hears },
      tell: (report) => {
        told[name]?.push(report);
        if (told.bus?.length === 1 && told.door?.length === 1) heard.resolve();
      },
    });
  receive("bus", (source) => !source.startsWith("host:"));
  receive("door", () => true);
  for (let turn = 0; turn < 50; turn += 1) {
    loads.own("m1", 80, turn % 2);
    loads.own("m2", 80, turn);
  }
  loads.take("door:1", says(["m2", 80, 7]));
  loads.take("host:n2", says(["m2", 80, 1_000]));
  await heard.promise;
  // m1 was busy, which is news also when it has nothing now but what it had before.
  assert.deepEqual(told.bus, [says(["m1", 80, 1], ["m2", 80, 56])]);
  assert.deepEqual(told.door, [says(["m1", 80, 1], ["m2", 80, 1_049])]);
  loads.stop();
});

test("one that joins late is told what there is already", () => {
  const { loads } = start();
  loads.own("m1", 80, 2);
  const told: LoadReport[] = [];
  loads.addReceiver({ name: "bus", pauseMs: 5, hears: () => true, tell: (report) => told.push(report) });
  assert.deepEqual(told, [all(["m1", 80, 2])]);
  loads.stop();
});

test("what was said of a service is heard, also that it has nothing to do any more", () => {
  const heard: LoadEntry[] = [];
  const { loads } = start((entry) => heard.push(entry));
  loads.own("m1", 80, 1);
  loads.take("door:1", says(["m1", 80, 0]));
  assert.deepEqual(heard, [["m1", 80, 0]]);
});

test("limits are for what all have: soft ones order machines, hard ones close them", () => {
  const place = (id: string, active: number, softLimit: number, hardLimit: number): LoadedPlace =>
    ({
      endpoint: { id, app: "web", nodeId: "n1", address: "::1", state: "ready", services: [] },
      service: { internalPort: 80, softLimit, hardLimit },
      load: { active, avoidUntilMs: 0, busyMs: 0, readyMs: 0, draining: false },
    }) as unknown as LoadedPlace;
  const { loads } = start();
  const context = { nodeId: "n1", nowMs: 0, tried: new Set<string>(), turn: 0 };
  const places = [place("a", 1, 4, 5), place("b", 2, 4, 5)];
  const chosen = (others = loads as typeof noOtherLoads): string | undefined =>
    choosePlace(places, { ...context, others })?.endpoint.id;
  assert.equal(chosen(noOtherLoads), "a");
  loads.take("host:n2", says(["a", 80, 3]));
  assert.equal(chosen(), "b", "a is at its soft limit");
  loads.take("host:n2", says(["a", 80, 4], ["b", 80, 2]));
  assert.equal(chosen(), "b", "a is at its hard limit");
  loads.take("host:n3", says(["b", 80, 1]));
  assert.equal(chosen(), undefined);
});
