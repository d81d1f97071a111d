import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeExecFrame, type ExecFrame, encodeExecFrame, maxExecFrameBytes } from "@hearth/machine";
import fc from "fast-check";
import { type ClientFrame, decodeServerFrame, encodeClientFrame, maxFrameBytes } from "./exec-codec.ts";

const data = fc.uint8Array({ maxLength: 64 });
const record = <T>(model: { readonly [Key in keyof T]: fc.Arbitrary<T[Key]> }) =>
  fc.record(model, { noNullPrototype: true });
const cells = fc.integer({ min: 1, max: 65_535 });

test("what a client sends, a server reads as it was meant", () => {
  const frames = fc.oneof<fc.Arbitrary<ClientFrame>[]>(
    record({ channel: fc.constant("stdin"), data }),
    fc.constant({ channel: "close", closes: "stdin" }),
    record({
      channel: fc.constant("control"),
      control: fc.oneof(
        record({ kind: fc.constant("resize"), cols: cells, rows: cells }),
        record({ kind: fc.constant("signal"), signal: fc.integer({ min: 1, max: 64 }) }),
      ),
    }),
  );
  fc.assert(
    fc.property(frames, (frame) => {
      assert.deepEqual(decodeExecFrame(encodeClientFrame(frame)), frame);
    }),
  );
});

test("what a server sends, a client reads as it was meant", () => {
  const frames = fc.oneof<fc.Arbitrary<ExecFrame>[]>(
    record({ channel: fc.constantFrom("stdout", "stderr"), data }),
    record({ channel: fc.constant("close"), closes: fc.constantFrom("stdin", "stdout", "stderr") }),
    record({
      channel: fc.constant("status"),
      status: fc.oneof(
        record({ kind: fc.constant("exited"), exit_code: fc.integer(), exit_signal: fc.integer() }),
        record({ kind: fc.constant("failed"), code: fc.string(), message: fc.string() }),
      ),
    }),
  );
  fc.assert(
    fc.property(frames, (frame) => {
      assert.deepEqual(decodeServerFrame(encodeExecFrame(frame)), frame);
    }),
  );
});

test("what is no frame is refused, whatever its bytes are", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 8 }), (message) => {
      const read = (decode: (message: Uint8Array) => unknown): unknown => {
        try {
          return decode(message);
        } catch {
          return "refused";
        }
      };
      if (message[0] !== 4) assert.deepEqual(read(decodeServerFrame), read(decodeExecFrame));
    }),
  );
});

test("the largest frame is the same on both sides", () => {
  assert.equal(maxFrameBytes, maxExecFrameBytes);
});
