import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeExecFrame, type ExecFrame, encodeExecFrame, maxExecFrameBytes } from "./exec-frames.ts";

test("data comes through every channel as it was", () => {
  fc.assert(
    fc.property(fc.constantFrom("stdin", "stdout", "stderr"), fc.uint8Array(), (channel, data) => {
      const decoded = decodeExecFrame(encodeExecFrame({ channel, data }));
      assert.ok(decoded.channel === channel);
      assert.deepEqual([...decoded.data], [...data]);
    }),
  );
});

test("status, control and close come through", () => {
  const frames: ExecFrame[] = [
    { channel: "status", status: { kind: "exited", exit_code: 0, exit_signal: 0 } },
    { channel: "status", status: { kind: "failed", code: "entrypoint_not_found", message: "é" } },
    { channel: "control", control: { kind: "resize", cols: 80, rows: 24 } },
    { channel: "control", control: { kind: "signal", signal: 15 } },
    { channel: "close", closes: "stdin" },
  ];
  for (const frame of frames) assert.deepEqual(decodeExecFrame(encodeExecFrame(frame)), frame);
});

test("the bytes on the wire", () => {
  assert.deepEqual([...encodeExecFrame({ channel: "stdout", data: Buffer.from("a") })], [1, 97]);
  assert.deepEqual([...encodeExecFrame({ channel: "close", closes: "stderr" })], [255, 2]);
});

test("any other bytes are refused by name", () => {
  for (const bytes of [[], [5], [254, 1], [255], [255, 3], [255, 0, 0], [3, 123], [3, 0xff], [4, 0x7b, 0x7d]])
    assert.throws(
      () => decodeExecFrame(Uint8Array.from(bytes)),
      { code: "invalid_argument" },
      bytes.join(" "),
    );
  assert.throws(() => decodeExecFrame(new Uint8Array(maxExecFrameBytes + 2)), { code: "payload_too_large" });
});
