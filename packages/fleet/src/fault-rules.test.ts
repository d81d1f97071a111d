import assert from "node:assert/strict";
import { test } from "node:test";
import { renderFaults } from "./fault-rules.ts";

const one = { port: "h1", mac: "02:68:66:00:00:01" };
const two = { port: "h2", mac: "02:68:66:00:00:02" };

test("faults are one transaction that replaces all of the table", () => {
  const script = renderFaults({
    cuts: [{ from: one, to: two }],
    losses: [{ from: two, to: one, percent: 2.5 }],
    narrows: [{ from: one, to: two, bytes: 1_400 }],
  });
  assert.equal(
    script,
    `add table bridge faults
delete table bridge faults
add table bridge faults
add chain bridge faults forward { type filter hook forward priority filter; policy accept; }
add rule bridge faults forward ether type arp accept
add rule bridge faults forward ether saddr 02:68:66:00:00:01 oifname "h2" counter drop
add rule bridge faults forward ether saddr 02:68:66:00:00:02 oifname "h1" numgen random mod 1000 < 25 counter drop
add rule bridge faults forward ether saddr 02:68:66:00:00:01 oifname "h2" meta l4proto udp meta length > 1400 counter drop
`,
  );
});
