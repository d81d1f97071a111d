import assert from "node:assert/strict";
import { test } from "node:test";
import { renderNatsConfig } from "./nats-config.ts";

const cluster = { name: "c", host: "10.0.0.1", port: 6222, routes: ["10.0.0.2:6222"], secret: "5ec2e7" };
const base = { dir: "/d", name: "s1", host: "10.0.0.1", port: 4222, cluster };

test("a server of the bus has no users in the account that is the servers' own, as a reload would break it", () => {
  const text = renderNatsConfig({ ...base, users: [], keepers: ["UKEEPER"] });
  assert.doesNotMatch(text, /SYS|system_account/);
  assert.match(text, /STATE \{\s+jetstream: enabled\s+users: \[\{ nkey: "UKEEPER" \}\]/);
  assert.match(text, /client_advertise: "10.0.0.1:4222"/);
});

test("the door of an operator has that account alone, no store, and names itself to no client", () => {
  const text = renderNatsConfig({ ...base, operators: ["UOPERATOR"] });
  assert.match(text, /"\$SYS" \{ users: \[\{ nkey: "UOPERATOR" \}\] \}/);
  assert.doesNotMatch(text, /jetstream|STATE|SERVICES|client_advertise/);
  assert.match(text, /no_advertise: true/);
});

test("only a server that knows the setting is told to sync always", () => {
  assert.match(renderNatsConfig({ ...base, syncsAlways: true }), /jetstream \{[^}]*sync_interval: "always"/);
  assert.doesNotMatch(renderNatsConfig(base), /sync/);
});
