/**
 * Health and metrics over HTTP on a socket in the node's run directory: they are read on this host, also with the bus
 * down. `curl --unix-socket <run directory>/dns.sock http://dns/metrics`
 */
import { once } from "node:events";
import { chmodSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";

export interface MetricsServerDeps {
  readonly metrics: () => string;
  readonly health: () => Readonly<Record<string, unknown>>;
}

const maxConnections = 16;
const requestLimitMs = 2_000;

export class MetricsServer {
  readonly #server: Server;

  constructor({ metrics, health }: MetricsServerDeps) {
    const limits = { requestTimeout: requestLimitMs, headersTimeout: requestLimitMs };
    this.#server = createServer({ ...limits, maxHeaderSize: 4_096 }, (request, response) => {
      const answers: Record<string, () => readonly [type: string, body: string]> = {
        "/metrics": () => ["text/plain; version=0.0.4", metrics()],
        "/health": () => ["application/json", JSON.stringify(health())],
      };
      const answer = Object.hasOwn(answers, request.url ?? "") ? answers[request.url ?? ""] : undefined;
      const [type, body] = answer?.() ?? ["text/plain", "ask for /health or /metrics\n"];
      response.writeHead(answer === undefined ? 404 : 200, { "content-type": type, connection: "close" });
      response.end(body);
    });
    this.#server.maxConnections = maxConnections;
  }

  /** What an earlier life of the service left there is replaced. */
  async start(path: string): Promise<void> {
    rmSync(path, { force: true });
    const listening = once(this.#server, "listening");
    this.#server.listen(path);
    await listening;
    chmodSync(path, 0o600);
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}
