import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger } from "@hearth/telemetry";
import { accessLines } from "./access-lines.ts";
import type { AccessEvent } from "./access-log.ts";

test("a line of an access event is what the service's logger would have written", () => {
  // All there are: one that is left out here does not compile.
  const event: Required<AccessEvent> = {
    ...{ event: "request", status: 200, client: "::1", protocol: "1.1", host: 'web.example.test"' },
    ...{
      method: 'G"',
      path: '/a"b\\\u2028\u0001\ud800',
      app: "web",
      route: "web:80",
      machine_id: "00000000000001",
    },
    ...{ request_id: "a+b/c", trace_id: "0".repeat(32), attempts: 2, wait_ms: 0.25, why_waited: "full" },
    ...{
      upstream_ms: 1e12,
      duration_ms: 0.5,
      bytes_in: 0,
      bytes_out: 3,
      reason: "guest_broke",
      why: 'said "no"',
    },
  };
  const written: string[] = [];
  const own: string[] = [];
  const destination = { write: (line: string) => void written.push(line) };
  createLogger("ingress", { node_id: "n1", door: 2 }, { destination }).info(event, event.event);
  const expected = JSON.parse(written[0] ?? "") as { readonly time: string };
  const write = accessLines(
    { service: "ingress", node_id: "n1", door: 2 },
    { write: (line) => void own.push(line) },
    () => Date.parse(expected.time),
  );
  write(event);
  assert.deepEqual(JSON.parse(own[0] ?? ""), expected);
  assert.deepEqual(Object.keys(JSON.parse(own[0] ?? "")), Object.keys(expected));
  assert.match(own[0] ?? "", /^[^\n]*\n$/);
});
