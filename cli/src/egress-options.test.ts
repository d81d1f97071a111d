/** What machines may send, on the command line: of a machine, and of an app. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type CliHost, cliHost } from "./testing/hearth-process.ts";

let host: CliHost;
before(async () => {
  host = await cliHost();
});
after(() => host[Symbol.asyncDispose]());

const posted = (path: string): Record<string, unknown>[] =>
  host.api.calls
    .filter((call) => call.path.endsWith(path) && call.method !== "GET")
    .map(({ body }) => body as never);
const networks = (): unknown[] =>
  posted("/machines").map(({ config }) => (config as { readonly network?: unknown }).network);
const run = (...options: string[]) => host.hearth(["run", "-d", ...options, "demo:latest"]);

describe("options of egress", () => {
  test("are the fields of the API, for a machine", async () => {
    const options = ["--no-internet", "--allow-out", "tcp:[2001:db8::1]:443", "--allow-out", "*.example.com"];
    assert.equal((await run(...options, "--deny-out", "udp:all:53")).code, 0);
    assert.deepEqual(networks().at(-1), {
      allowOut: ["tcp:[2001:db8::1]:443", "*.example.com"],
      denyOut: ["udp:all:53"],
      allow_internet_access: false,
    });
    assert.equal((await run()).code, 0);
    assert.equal(networks().at(-1), undefined);
  });

  const wrong = [
    [["--allow-out", "203.0.113.0/40"], /--allow-out 203\.0\.113\.0\/40 has a prefix that is not 0 to 32/],
    [
      ["--allow-out", "all", "--deny-out", "2001:db8::/129"],
      /--deny-out 2001:db8::\/129 has a prefix .* 128/,
    ],
    [["--deny-out", "203.0.113.300"], /--deny-out 203\.0\.113\.300 is not an address or a block/],
    [
      ["--deny-out", "203.0.113.9:70000"],
      /--deny-out 203\.0\.113\.9:70000 has ports that are not 1 to 65535/,
    ],
    [
      ["--allow-out", "[2001:db8::1]:90-80"],
      /--allow-out \[2001:db8::1\]:90-80 has ports .* lower one first/,
    ],
    [["--allow-out", "a.example:1-9"], /--allow-out a\.example:1-9 is a domain with a range of ports/],
    [["--allow-out", "a.*.example"], /--allow-out a\.\*\.example is not a domain/],
    [["--deny-out", "a.example"], /--deny-out a\.example is a domain, and only addresses can be denied/],
    [["--allow-out", "all", "--deny-out", "all"], /--allow-out and --deny-out both name all/],
  ] as const;
  for (const [options, says] of wrong)
    test(`that are wrong are told before anything is made: ${options.join(" ")}`, async () => {
      const before = host.api.calls.length;
      for (const command of [
        ["run", "-d", ...options, "demo:latest"],
        ["apps", "create", "wrong", ...options],
        ["apps", "egress", "shop", ...options],
      ]) {
        const { code, stdout, stderr } = await host.hearth(command);
        // Where the code is otherwise that of a program, it is told apart from one, as with docker.
        assert.deepEqual([code, stdout], [command[0] === "run" ? 125 : 2, ""], stderr);
        assert.match(stderr, says);
        assert.match(stderr, /\(invalid_argument\)/);
      }
      assert.equal(host.api.calls.length, before, "the API was not asked");
    });
});

describe("hearth apps egress", () => {
  const egress = (...args: string[]) => host.hearth(["apps", "egress", ...args]);

  test("shows, sets and clears the policy of an app, as a table or as JSON", async () => {
    await host.hearth(["apps", "create", "shop"]);
    assert.equal((await egress("shop")).stdout, "The app denies nothing.\n");
    assert.deepEqual(JSON.parse((await egress("shop", "--json")).stdout), { app: "shop", egress: {} });
    const set = await egress("shop", "--no-internet", "--allow-out", "203.0.113.0/24", "--json");
    const policy = { allowOut: ["203.0.113.0/24"], allow_internet_access: false };
    assert.deepEqual(JSON.parse(set.stdout), { app: "shop", egress: policy });
    assert.deepEqual(posted("/apps/shop/egress").at(-1), policy);
    assert.equal((await egress("shop")).stdout, "EGRESS  RULE\nallow   203.0.113.0/24\ndeny    all\n");
    assert.deepEqual(JSON.parse((await egress("shop", "--clear", "--json")).stdout), {
      app: "shop",
      egress: {},
    });
    assert.equal((await egress("shop")).stdout, "The app denies nothing.\n");
  });

  test("refuses to set and clear in one, and an app that is not there", async () => {
    const both = await egress("shop", "--clear", "--no-internet");
    assert.deepEqual([both.code, both.stdout], [2, ""]);
    assert.match(both.stderr, /Use --clear or a policy, not both\. \(invalid_argument\)/);
    const missing = await egress("nobody", "--json");
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /app_not_found/);
  });
});
