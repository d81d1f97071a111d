import assert from "node:assert/strict";
import { test } from "node:test";
import { canonicalIp } from "./ip-text.ts";

test("an address has one text, however it was written", () => {
  for (const [text, one] of [
    ["192.0.2.1", "192.0.2.1"],
    ["FD00:0:0:0:0:0:0:1", "fd00::1"],
    ["fd00:0000::0001", "fd00::1"],
    ["2001:db8:0:1:0:0:0:1", "2001:db8:0:1::1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::FFFF:c000:201", "192.0.2.1"],
    ["0:0:0:0:0:0:0:1", "::1"],
  ] as const)
    assert.equal(canonicalIp(text), one, text);
  for (const text of ["", "host", "1.2.3", "fd00::1%eth0", "[fd00::1]", "fd00::1/64"])
    assert.equal(canonicalIp(text), undefined, text);
});
