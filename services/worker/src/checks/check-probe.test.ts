/** Probes against real servers on this host. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttp, type RequestListener } from "node:http";
import { createServer as createHttps } from "node:https";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { HttpProbe } from "@hearth/machine";
import { probeOnce } from "./check-probe.ts";
import { maxCheckOutput } from "./machine-checks.ts";

const never = new AbortController().signal;
const target = {
  // Which only the connection that is handed in can reach.
  ...{ host: "fd12:3456:789a:1::7", user: "", workdir: "" },
  connect: ({ port }: { readonly port: number }) => connect({ host: "::1", port }),
  call: () => Promise.reject(new Error("no guest here")),
};
const http = (port: number, changes: Partial<HttpProbe> = {}): HttpProbe => ({
  ...{ type: "http", port, method: "GET", path: "/", headers: [], ...changes },
});

/** @returns the port, and an end that waits until all connections are gone */
async function serving(server: Server) {
  const sockets = new Set<Socket>();
  let count = 0;
  server.on("connection", (socket) => {
    count += 1;
    sockets.add(socket.once("close", () => sockets.delete(socket)));
  });
  await new Promise<void>((resolve) => server.listen(0, "::1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => count,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}

const web = (listener: RequestListener) => serving(createHttp(listener));

async function closedPort(): Promise<number> {
  const server = await serving(createServer());
  await server[Symbol.asyncDispose]();
  return server.port;
}

describe("a probe", { timeout: 20_000 }, () => {
  test("of TCP passes when a connection comes about, and leaves none", async () => {
    const server = await serving(createServer((socket) => socket.resume()));
    const seen = await probeOnce({ type: "tcp", port: server.port }, target, never);
    assert.deepEqual(seen, { passing: true, output: `connected to port ${server.port}` });
    assert.equal(server.connections(), 1);
    await server[Symbol.asyncDispose]();
    const refused = await probeOnce({ type: "tcp", port: server.port }, target, never);
    assert.deepEqual(refused, { passing: false, output: "connection refused" });
  });

  test("of HTTP passes with 2xx and nothing else, and follows no redirect", async () => {
    await using server = await web((request, response) => {
      const status = Number(request.url?.slice(1));
      response.writeHead(status, { location: "/200" }).end(status === 204 ? undefined : "because");
    });
    const look = (status: number) => probeOnce(http(server.port, { path: `/${status}` }), target, never);
    assert.deepEqual(await look(200), { passing: true, output: "200 OK" });
    assert.deepEqual(await look(204), { passing: true, output: "204 No Content" });
    assert.deepEqual(await look(302), { passing: false, output: "302 Found: because" });
    assert.deepEqual(await look(404), { passing: false, output: "404 Not Found: because" });
    assert.deepEqual(await look(503), { passing: false, output: "503 Service Unavailable: because" });
    assert.equal(server.connections(), 5, "each on a connection of its own");
    const port = await closedPort();
    assert.deepEqual(await probeOnce(http(port), target, never), {
      ...{ passing: false, output: "connection refused" },
    });
  });

  test("of HTTP sends the method, the path and the headers that the check names", async () => {
    let told: unknown;
    await using server = await web(({ method, url, headers, rawHeaders }, response) => {
      const many = rawHeaders.filter((_, index) => rawHeaders[index - 1]?.toLowerCase() === "x-many");
      told = { method, url, host: headers.host, agent: headers["user-agent"], many };
      response.end();
    });
    const headers = [
      { name: "Host", values: ["example.test"] },
      { name: "X-Many", values: ["1", "2"] },
    ];
    const probe = http(server.port, { method: "HEAD", path: "/up?a=1", headers });
    assert.equal((await probeOnce(probe, target, never)).passing, true);
    assert.deepEqual(told, {
      ...{ method: "HEAD", url: "/up?a=1", host: "example.test", agent: "hearth-check", many: ["1", "2"] },
    });
  });

  test("reads no more of an endless body than its output needs, and shows only what is printable", async () => {
    let sent = 0;
    await using server = await web((_request, response) => {
      response.writeHead(500);
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536, "x\u001b[31m\r"))) sent += 65_536;
      };
      response.on("drain", more);
      more();
    });
    const { passing, output } = await probeOnce(http(server.port), target, never);
    assert.equal(passing, false);
    assert.match(output, /^500 Internal Server Error: x\[31mx\[31m/);
    assert.equal(output.length, maxCheckOutput);
    // What was sent fits in the buffers of two sockets; an endless body would go on.
    assert.ok(sent < 32 * 2 ** 20, `${sent}`);
  });

  test("ends when it is told to, whatever the machine does", async () => {
    const silent = await serving(createServer((socket) => socket.resume()));
    for (const tls of [undefined, { verify: false }]) {
      const ending = new AbortController();
      const probe = http(silent.port, tls === undefined ? {} : { tls });
      const seen = probeOnce(probe, target, ending.signal);
      ending.abort();
      assert.equal((await seen).passing, false);
    }
    const ended = await probeOnce({ type: "tcp", port: silent.port }, target, AbortSignal.abort());
    assert.equal(ended.passing, false);
    await silent[Symbol.asyncDispose]();
  });

  test("takes an answer that is no HTTP for what it is", async () => {
    await using server = await serving(createServer((socket) => socket.resume().end("SSH-2.0\r\n")));
    const { passing, output } = await probeOnce(http(server.port), target, never);
    assert.equal(passing, false);
    assert.match(output, /Parse Error/);
  });

  test("of HTTPS verifies the certificate, unless the check says not to, and sends the name that it gives", async () => {
    const dir = mkdtempSync(join(tmpdir(), "hearth-tls-"));
    const [key, cert] = [join(dir, "key.pem"), join(dir, "cert.pem")];
    const subject = ["-subj", "/CN=a.test", "-addext", "subjectAltName=DNS:a.test"];
    const made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    execFileSync("openssl", [...made, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
    const names: string[] = [];
    const options = {
      ...{ key: readFileSync(key), cert: readFileSync(cert) },
      SNICallback: (name: string, done: (error: null) => void) => {
        names.push(name);
        done(null);
      },
    };
    await using server = await serving(createHttps(options, (_request, response) => response.end()));
    rmSync(dir, { recursive: true });
    const look = (tls: HttpProbe["tls"], port = server.port) =>
      probeOnce(http(port, { ...(tls && { tls }) }), target, never);
    const unverified = await look({ verify: false, serverName: "a.test" });
    assert.deepEqual(unverified, { passing: true, output: "200 OK" });
    assert.deepEqual(names, ["a.test"]);
    const verified = await look({ verify: true, serverName: "a.test" });
    assert.equal(verified.passing, false);
    assert.match(verified.output, /self-signed certificate/);
    const refused = await look({ verify: true }, await closedPort());
    assert.deepEqual(refused, { passing: false, output: "connection refused" });
  });
});
