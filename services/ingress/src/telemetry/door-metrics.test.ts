import assert from "node:assert/strict";
import { test } from "node:test";
import { ask } from "../testing/client.ts";
import { startDoor } from "../testing/door.ts";
import { machineId, webService } from "../testing/facts.ts";
import type { AccessEvent } from "./access-log.ts";
import { DoorMetrics, mergeSnapshots, noApp, otherApps } from "./door-metrics.ts";
import { openMetrics } from "./metrics-text.ts";

const request = (more: Partial<AccessEvent>): AccessEvent => ({
  ...{ event: "request", status: 200, client: "::1", protocol: "1.1", duration_ms: 4, ...more },
});

/** Samples by their name with labels; also checks what holds for every text of OpenMetrics. */
function samples(text: string): Map<string, number> {
  const found = new Map<string, number>();
  const types = new Map<string, string>();
  const lines = text.split("\n");
  assert.deepEqual(lines.slice(-2), ["# EOF", ""]);
  for (const line of lines.slice(0, -2)) {
    const [, name = "", type] = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line) ?? [];
    if (type !== undefined) {
      assert.equal(types.has(name), false, `${name} is told twice`);
      types.set(name, type);
    }
    if (line.startsWith("#")) continue;
    const [, key = "", value] = /^([a-z_]+(?:\{[^\n]*\})?) (\d+(?:\.\d+)?)$/.exec(line) ?? [];
    assert.ok(value !== undefined, `no sample: ${line}`);
    const family = key.replace(/\{.*/, "").replace(/_(total|bucket|sum|count)$/, "");
    assert.equal([...types.keys()].at(-1), family, `${key} stands in its family`);
    assert.equal(found.has(key), false, `${key} is there once`);
    found.set(key, Number(value));
  }
  return found;
}

test("requests are counted by app, kind, route and class of status, and their times by bucket", () => {
  const metrics = new DoorMetrics(10);
  metrics.note(request({ app: "web", route: "web:443", upstream_ms: 2, bytes_in: 5, bytes_out: 70 }));
  metrics.note(request({ app: "web", route: "web:443", status: 503, reason: "waking", duration_ms: 700 }));
  metrics.note(request({ app: "web", route: "8080-abc", attempts: 3, duration_ms: 61_000 }));
  metrics.note(
    request({ event: "tunnel", app: "web", route: "web:443", status: 101, protocol: "websocket" }),
  );
  metrics.note(request({ event: "connection", app: "db", route: "db:5432", status: 0, protocol: "tcp" }));
  metrics.note(request({ status: 404, reason: "unknown_host", duration_ms: 0 }));
  const text = openMetrics(metrics.snapshot({ open_connections: 3 }, { web: 2 }));
  const found = samples(text);
  const total = (labels: string) => found.get(`hearth_ingress_requests_total{${labels}}`);
  assert.equal(total('app="web",kind="http",route="app",code="2xx"'), 1);
  assert.equal(total('app="web",kind="http",route="app",code="5xx"'), 1);
  assert.equal(total('app="web",kind="http",route="machine",code="2xx"'), 1);
  assert.equal(total('app="web",kind="websocket",route="app",code="1xx"'), 1);
  assert.equal(total('app="db",kind="tcp",route="app",code="none"'), 1);
  assert.equal(total(`app="${noApp}",kind="http",route="none",code="4xx"`), 1);
  const bucket = (le: string) =>
    found.get(`hearth_ingress_request_duration_seconds_bucket{app="web",le="${le}"}`);
  assert.deepEqual(
    [bucket("0.0025"), bucket("0.005"), bucket("1"), bucket("60"), bucket("+Inf")],
    [0, 2, 3, 3, 4],
  );
  assert.equal(found.get('hearth_ingress_request_duration_seconds_count{app="web"}'), 4);
  assert.equal(found.get('hearth_ingress_upstream_seconds_sum{app="web"}'), 0.002);
  assert.equal(found.get('hearth_ingress_transferred_bytes_total{app="web",direction="out"}'), 70);
  assert.equal(found.get('hearth_ingress_retries_total{app="web"}'), 2);
  assert.equal(found.get('hearth_ingress_refused_total{reason="unknown_host"}'), 1);
  assert.equal(found.get("hearth_ingress_open_connections"), 3);
  assert.equal(found.get('hearth_ingress_waiting_requests{app="web"}'), 2);
});

test("a wait for a machine is another time than a wait for room", () => {
  const metrics = new DoorMetrics(10);
  for (const why_waited of ["asleep", "waking", "leaving", "full"] as const)
    metrics.note(request({ app: "web", why_waited, wait_ms: 2_000 }));
  metrics.note(request({ app: "web", wait_ms: 0.02 }));
  const found = samples(openMetrics(metrics.snapshot()));
  assert.equal(found.get('hearth_ingress_wake_seconds_count{app="web"}'), 3);
  assert.equal(found.get('hearth_ingress_queue_seconds_count{app="web"}'), 1);
});

test("however many apps there are, the numbers are bounded, and nothing goes uncounted", () => {
  const metrics = new DoorMetrics(3);
  for (let app = 0; app < 1_000; app += 1)
    metrics.note(request({ app: `app-${app}`, route: `app-${app}:80` }));
  metrics.note(request({ status: 404 }));
  const snapshot = metrics.snapshot({}, { "app-0": 1, "app-8": 2, "app-9": 3 });
  assert.deepEqual(Object.keys(snapshot.apps), ["app-0", "app-1", "app-2", otherApps, noApp]);
  assert.deepEqual(snapshot.apps[otherApps]?.requests, { "http app 2xx": 997 });
  assert.deepEqual(snapshot.waiting, { "app-0": 1, [otherApps]: 5 });
});

test("what several processes count is told as one", () => {
  const [one, two] = [new DoorMetrics(10), new DoorMetrics(10)];
  one.note(request({ app: "web", route: "web:80", bytes_out: 1, reason: "waking" }));
  two.note(request({ app: "web", route: "web:80", bytes_out: 2, duration_ms: 2_000, reason: "waking" }));
  two.note(request({ app: "db", route: "db:80" }));
  const merged = mergeSnapshots([
    one.snapshot({ open_connections: 1 }),
    two.snapshot({ open_connections: 4 }),
  ]);
  const found = samples(openMetrics(merged));
  assert.equal(found.get('hearth_ingress_requests_total{app="web",kind="http",route="app",code="2xx"}'), 2);
  assert.equal(found.get('hearth_ingress_request_duration_seconds_sum{app="web"}'), 2.004);
  assert.equal(found.get('hearth_ingress_transferred_bytes_total{app="web",direction="out"}'), 3);
  assert.equal(found.get('hearth_ingress_refused_total{reason="waking"}'), 2);
  assert.equal(found.get("hearth_ingress_open_connections"), 5);
  assert.equal(one.snapshot().apps.web?.bytesOut, 1, "a snapshot is nobody else's");
});

test("a front door counts what it serves: a request that woke a machine, and one for nobody", async () => {
  await using door = await startDoor({
    startMachine: async () => {
      await new Promise((resolve) => setImmediate(resolve));
      door.put({ id: machineId(1), address: "127.0.0.1", services: [webService(port)] });
    },
  });
  const { internal: port } = await door.guest((_, response) => response.end("hello"));
  door.put({ id: machineId(1), address: "127.0.0.1", services: [webService(port)], state: "stopped" });
  assert.equal((await ask(door.port, { method: "POST" }, "12345")).body, "hello");
  await ask(door.port, { headers: { host: "nobody.example.test" } });
  await door.event(({ status }) => status === 404);
  const found = samples(openMetrics(door.ingress.metrics()));
  assert.equal(found.get('hearth_ingress_requests_total{app="web",kind="http",route="app",code="2xx"}'), 1);
  assert.equal(found.get('hearth_ingress_wake_seconds_count{app="web"}'), 1);
  assert.equal(found.get('hearth_ingress_transferred_bytes_total{app="web",direction="in"}'), 5);
  assert.equal(found.get('hearth_ingress_transferred_bytes_total{app="web",direction="out"}'), 5);
  assert.equal(found.get('hearth_ingress_refused_total{reason="unknown_host"}'), 1);
  assert.equal(found.get("hearth_ingress_routed_machines"), 1);
});
