import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { test } from "node:test";
import { errorRegistry, HearthError } from "../mod.ts";

const page = resolve(import.meta.dirname, "../../../docs/errors.md");

test("docs/errors.md and the registry say the same, code by code", async () => {
  const rows = (await readFile(page, "utf8"))
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) => line.split("|").map((cell) => cell.trim()));
  const documented = Object.fromEntries(
    rows.map(([, code = "", status, retryable, text]) => [
      code.replaceAll("`", ""),
      { status: Number(status), retryable: retryable === "yes", text },
    ]),
  );
  assert.deepEqual(documented, { ...errorRegistry });
});

test("every text is a sentence that says what to do", () => {
  for (const [code, { text, status }] of Object.entries(errorRegistry)) {
    assert.match(text, /^[A-Z].*;.*\.$/, code);
    assert.ok(status >= 400 && status < 600, code);
  }
});

test("an error crosses a border and comes back without its cause", () => {
  const sent = new HearthError("name_taken", { details: { name: "web" }, cause: new Error("secret path") });
  const wire = JSON.parse(JSON.stringify(sent.toWire()));
  assert.equal(JSON.stringify(wire).includes("secret path"), false);
  const received = HearthError.fromWire(wire);
  assert.equal(received.code, "name_taken");
  assert.equal(received.status, 422);
  assert.deepEqual(received.details, { name: "web" });
});

test("a code of a newer peer becomes internal and keeps its text", () => {
  const received = HearthError.fromWire({ code: "toString", message: "from the future" });
  assert.equal(received.code, "internal");
  assert.equal(received.message, "from the future");
});
