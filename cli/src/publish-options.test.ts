/** Ports of the front door on the command line. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type CliHost, cliHost } from "./testing/hearth-process.ts";

let host: CliHost;
before(async () => {
  host = await cliHost();
});
after(() => host[Symbol.asyncDispose]());

const services = (): unknown[] =>
  host.api.calls
    .filter(({ path, method }) => path.endsWith("/machines") && method === "POST")
    .map(({ body }) => (body as { readonly config: { readonly services?: unknown } }).config.services);
const run = (...options: string[]) => host.hearth(["run", "-d", ...options, "demo:latest"]);

describe("-p", () => {
  test("is services of the machine, one for each of its ports", async () => {
    const published = ["-p", "80:8080", "-p", "443:8080", "--port", "7000-7002:7/tcp:tls"];
    assert.equal((await run(...published, "-p", "25565")).code, 0);
    const both = { protocol: "tcp", autostart: true, autostop: "off" };
    assert.deepEqual(services().at(-1), [
      {
        ...both,
        internal_port: 8080,
        ports: [
          { port: 80, handlers: ["http"] },
          { port: 443, handlers: ["tls", "http"] },
        ],
      },
      { ...both, internal_port: 7, ports: [{ start_port: 7000, end_port: 7002, handlers: ["tls"] }] },
      { ...both, internal_port: 25_565, ports: [{ port: 25_565, handlers: [] }] },
    ]);
    assert.equal((await run("-p", "443:1/tcp", "--autostop", "--no-autostart")).code, 0);
    assert.deepEqual(services().at(-1), [
      {
        ...{ protocol: "tcp", internal_port: 1, ports: [{ port: 443, handlers: [] }] },
        ...{ autostart: false, autostop: "stop" },
      },
    ]);
    assert.equal((await run()).code, 0);
    assert.equal(services().at(-1), undefined);
  });

  const wrong = [
    [["-p", "http"], /-p http is no port; write it as 443:8080/],
    [["-p", "0:80"], /-p 0:80: ports are 1 to 65535/],
    [["-p", "80:70000"], /-p 80:70000: ports are 1 to 65535/],
    [["-p", "20-10:5"], /-p 20-10:5: .* the lower one comes first/],
    [["-p", "10-20"], /-p 10-20: all ports of a range lead to one of the machine/],
    [["-p", "53/udp"], /-p 53\/udp: the front door takes tcp, and no udp/],
    [
      ["-p", "5432/tcp:pg_tls"],
      /-p 5432\/tcp:pg_tls: there is no handler pg_tls; there are http, tls, proxy_proto/,
    ],
    [["-p", "7000-7009:1", "-p", "7005:2"], /-p 7005:2: port 7005 is there twice/],
    [["--autostop"], /publish a port with -p/],
  ] as const;
  for (const [options, says] of wrong)
    test(`that is wrong is told before anything is made: ${options.join(" ")}`, async () => {
      const before = host.api.calls.length;
      const { code, stderr } = await run(...options);
      assert.equal(code, 125);
      assert.match(stderr, says);
      assert.equal(host.api.calls.length, before);
    });
});
