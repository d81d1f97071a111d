/** The counters of the front door's drill are shown what they are there to find. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { StrictClients } from "./strict-clients.ts";
import { readWrkReport } from "./wrk-load.ts";

async function countOf(listener: (turn: number) => RequestListener, requests: number) {
  let turn = 0;
  const stopped = Promise.withResolvers<void>();
  const server = createServer((request, response) => {
    turn += 1;
    if (turn === requests) stopped.resolve();
    listener(turn)(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const clients = new StrictClients(1);
  clients.add({ port, host: "a.test", path: "/", method: "GET", right: /^page [12]\n$/ }, 1);
  await stopped.promise;
  const count = await clients.stop();
  server.closeAllConnections();
  server.close();
  return count;
}

test("each request is sent once, and only a right answer counts as one", async () => {
  const wrong: readonly RequestListener[] = [
    (_, response) => response.writeHead(503, { "hearth-reason": "no_machine" }).end(),
    (_, response) => response.end("page"),
    (_, response) => response.socket?.resetAndDestroy(),
    (_, response) => {
      response.writeHead(200, { "content-length": 100 });
      response.write("page 1\n");
      setImmediate(() => response.destroy());
    },
  ];
  const { sent, answered, dropped, droppedCount } = await countOf(
    (turn) => wrong[turn - 2] ?? ((_, response) => response.end("page 1\n")),
    7,
  );
  assert.equal(droppedCount, 4);
  assert.match(dropped[0] ?? "", /GET \/: status 503 \(no_machine\)/);
  assert.match(dropped[1] ?? "", /another answer: "page"/);
  assert.equal(sent, (answered.get("page 1") ?? 0) + 4, "none is left uncounted");
});

test("what wrk lost is read from its report, and what is no report is refused", () => {
  const report = "  213 requests in 10.02s, 34.00KB read\n";
  assert.deepEqual(readWrkReport(report), { requests: 213, non_2xx: 0, socket_errors: 0 });
  const bad = `${report}  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n`;
  assert.deepEqual(readWrkReport(bad), { requests: 213, non_2xx: 5, socket_errors: 10 });
  assert.throws(() => readWrkReport("unable to connect"), /unable to connect/);
});
