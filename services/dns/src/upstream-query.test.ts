import assert from "node:assert/strict";
import { test } from "node:test";
import { askUpstream } from "./upstream-query.ts";

const question = {
  question: Buffer.from("\x03www\x04test\0\0\x01\0\x01"),
  dnssecOk: false,
  checkingDisabled: false,
};

test("an upstream to which there is no way fails its question, and nothing else", async () => {
  // The kernel refuses to connect a socket to all hosts at once, as it does where there is no route.
  const upstream = { address: "255.255.255.255", port: 53 };
  await assert.rejects(askUpstream(upstream, question, 2_000), { code: "unavailable" });
});
