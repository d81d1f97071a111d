/** The pure parts: values of options, names of machines, times before lines. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { AppMachine } from "@hearth/sdk";
import { chooseMachine } from "@hearth/sdk";
import { parseRemote } from "./cp.ts";
import { LineStamps } from "./line-stamps.ts";
import { parseMemoryMb, parsePairs } from "./options.ts";
import { formatAge, formatBytes, formatTable } from "./output.ts";
import { exitCodeOf } from "./program-end.ts";
import { parseRestart } from "./run-config.ts";

test("memory is read in the units that people write", () => {
  const rows: [string, number][] = [
    ["512", 512],
    ["512m", 512],
    ["2g", 2048],
    ["2GiB", 2048],
    ["1.5g", 1536],
    ["262144k", 256],
    ["1048576b", 1],
  ];
  for (const [text, expected] of rows) assert.equal(parseMemoryMb(text), expected, text);
  for (const text of ["", "much", "-1", "1t", "1 g"])
    assert.throws(() => parseMemoryMb(text), /512m or 2g/, text);
});

test("the value of a pair may hold equals signs", () => {
  assert.deepEqual(parsePairs("-l", ["a=b=c", "d="]), { a: "b=c", d: "" });
});

test("restart policies are those of docker", () => {
  assert.deepEqual(parseRestart("on-failure:3"), { policy: "on-failure", max_retries: 3 });
  assert.deepEqual(parseRestart("unless-stopped"), { policy: "always" });
  for (const text of ["always:3", "sometimes", ""]) assert.throws(() => parseRestart(text), text);
});

test("a machine is found by its id first, then its name, then the beginning of its id", () => {
  const machine = (id: string, name: string): AppMachine => ({ id, name, app_name: "app" }) as AppMachine;
  const machines = [
    machine("abc00000000001", "web"),
    machine("abd00000000002", "abc"),
    machine("def00000000003", "x"),
  ];
  const found = (text: string): string => chooseMachine(machines, text).id;
  assert.equal(found("abc00000000001"), "abc00000000001");
  assert.equal(found("abc"), "abd00000000002", "a name counts before the beginning of an id");
  assert.equal(found("abc0"), "abc00000000001");
  assert.throws(() => found("ab"), { code: "machine_not_found" }, "two letters are too few for an id");
  assert.throws(() => chooseMachine([...machines, machine("abc00000000009", "y")], "abc0"), {
    code: "conflict",
  });
});

test("a remote path has a machine before its colon", () => {
  assert.deepEqual(parseRemote("web:/a:b"), { machine: "web", path: "/a:b" });
  assert.deepEqual(parseRemote("web:etc"), { machine: "web", path: "/etc" });
  for (const text of ["/a:b", "./a:b", "a", "-"]) assert.equal(parseRemote(text), undefined, text);
});

test("a time stands before each line, wherever chunks end", () => {
  const stamps = new LineStamps();
  const add = (stream: string, text: string): string => stamps.add(stream, "T", Buffer.from(text)).toString();
  assert.equal(add("stdout", "one\ntw"), "T one\nT tw");
  assert.equal(add("stderr", "other\n"), "T other\n");
  assert.equal(add("stdout", "o\n\n"), "o\nT \n");
});

test("how a program ended is an exit code as of a shell", () => {
  const exited = (exit_code: number, exit_signal: number) =>
    exitCodeOf({ kind: "exited", exit_code, exit_signal });
  assert.equal(exited(7, 0), 7);
  assert.equal(exited(0, 9), 137);
  const failed = (code: string) => () => exitCodeOf({ kind: "failed", code, message: "x" });
  assert.throws(failed("entrypoint_not_found"), { exitCode: 127 });
  assert.throws(failed("permission_denied"), { exitCode: 126 });
  assert.throws(failed("vmm_not_running"), { exitCode: 125 });
});

test("sizes, ages and tables are short", () => {
  assert.deepEqual([0, 1023, 1024, 150 * 1024, 3 * 1024 ** 3].map(formatBytes), [
    "0 B",
    "1023 B",
    "1.0 KiB",
    "150 KiB",
    "3.0 GiB",
  ]);
  const now = Date.parse("2026-01-10T00:00:00Z");
  assert.equal(formatAge("2026-01-09T23:59:30Z", now), "30s");
  assert.equal(formatAge("2026-01-09T00:00:00Z", now), "24h");
  assert.equal(formatAge("2026-01-01T00:00:00Z", now), "9d");
  assert.equal(formatTable(["A", "B"], [["long", ""]]), "A     B\nlong\n");
});
