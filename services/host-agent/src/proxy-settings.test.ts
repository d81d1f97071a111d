import assert from "node:assert/strict";
import { test } from "node:test";
import { readSettings, settingsEnvironment } from "./settings.ts";

test("networks that speak the PROXY protocol are read, passed on, and refused by name when they are none", () => {
  const env = { HEARTH_PROXY_PROTOCOL_FROM: "192.0.2.7, 198.51.100.0/24,2001:db8::/32" };
  const settings = readSettings({}, env);
  assert.deepEqual(settings.proxyProtocolFrom, ["192.0.2.7/32", "198.51.100.0/24", "2001:db8::/32"]);
  assert.deepEqual(
    readSettings({}, settingsEnvironment(settings)).proxyProtocolFrom,
    settings.proxyProtocolFrom,
  );
  assert.equal(readSettings({}, { HEARTH_PROXY_PROTOCOL_FROM: "" }).proxyProtocolFrom, undefined);
  for (const HEARTH_PROXY_PROTOCOL_FROM of [
    "x",
    "192.0.2.0/33",
    "192.0.2.0/",
    "1.2.3.4/8/8",
    "2001:db8::/129",
  ])
    assert.throws(() => readSettings({}, { HEARTH_PROXY_PROTOCOL_FROM }), /HEARTH_PROXY_PROTOCOL_FROM/);
});
