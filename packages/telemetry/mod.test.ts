import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger } from "./mod.ts";

test("a line carries the service and bindings, and hides tokens", () => {
  const lines: string[] = [];
  const logger = createLogger("host", { node: "n1" }, { destination: { write: (line) => lines.push(line) } });
  logger.info({ token: "s3cret" }, "ready");
  const line = JSON.parse(lines[0] ?? "{}") as Record<string, unknown>;
  assert.equal(line.service, "host");
  assert.equal(line.node, "n1");
  assert.equal(line.level, "info");
  assert.equal(line.msg, "ready");
  assert.equal(line.token, "[Redacted]");
});
