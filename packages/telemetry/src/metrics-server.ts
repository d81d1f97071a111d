/**
 * Health and metrics over HTTP on a socket in the node's run directory: they are read on this host, also with the bus
 * down. `curl --unix-socket <run directory>/<service>.sock http://<service>/metrics`
 */
import { once } from "node:events";
import { chmodSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";

export interface MetricsServerDeps {
  readonly metrics: () => string | Promise<string>;
  /** What the text of the metrics is; Prometheus's own when absent. */
  readonly metricsType?: string;
  readonly health: () => Readonly<Record<string, unknown>>;
}

const maxConnections = 16;
const requestLimitMs = 2_000;

export class MetricsServer {
  readonly #server: Server;

  constructor({ metrics, health, metricsType = "text/plain; version=0.0.4" }: MetricsServerDeps) {
    const limits = { requestTimeout: requestLimitMs, headersTimeout: requestLimitMs };
    const answers = new Map<string, () => Promise<readonly [type: string, body: string]>>([
      ["/metrics", async () => [metricsType, await metrics()]],
      ["/health", async () => ["application/json", JSON.stringify(health())]],
    ]);
    this.#server = createServer({ ...limits, maxHeaderSize: 4_096 }, (request, response) => {
      const answer = answers.get(request.url ?? "");
      const send = (status: number, type: string, body: string): void => {
        response.writeHead(status, { "content-type": type, connection: "close" });
        response.end(body);
      };
      if (answer === undefined) send(404, "text/plain", "ask for /health or /metrics\n");
      else
        answer().then(
          ([type, body]) => send(200, type, body),
          () => send(503, "text/plain", "it cannot be told now\n"),
        );
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
