import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger } from "@hearth/telemetry";
import { accessLines } from "./access-lines.ts";
import type { AccessEvent } from "./access-log.ts";

test("a line of an access event is what the service's logger would have written", () => {
  const event: AccessEvent = {
    ...{ event: "request", status: 200, client: "::1", protocol: "1.1", duration_ms: 0.5 },
    ...{ path: '/a"b\\\u2028\u0001', host: "web.example.test", bytes_out: 3 },
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
