/**
 * The agent's own door: HTTP on a unix socket in the run directory, which root alone may open. It works when
 * the bus and the API do not, which is when it is needed.
 */
import { chmodSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { HearthError } from "@hearth/errors";
import Type from "typebox";
import Value from "typebox/value";
import type { AgentStatus } from "./agent-status.ts";

export const DownRequest = Type.Object(
  {
    /** What machines get to stop by themselves. */
    timeout_ms: Type.Optional(Type.Integer({ minimum: 0, maximum: 3_600_000 })),
    /** Stops the services also when the worker cannot stop its machines; these go on running. */
    force: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
);
export type DownRequest = Type.Static<typeof DownRequest>;

export interface ControlDeps {
  readonly socketPath: string;
  readonly status: () => AgentStatus;
  readonly down: (request: DownRequest) => Promise<void>;
}

const maxBodyBytes = 4096;

export class ControlServer implements AsyncDisposable {
  readonly #deps: ControlDeps;
  readonly #server: Server;

  constructor(deps: ControlDeps) {
    this.#deps = deps;
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  async start(): Promise<void> {
    const { socketPath } = this.#deps;
    // Whoever made it is gone, as this process has the lock.
    rmSync(socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject).listen(socketPath, resolve);
    });
    chmodSync(socketPath, 0o600);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#server.listening) return;
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeIdleConnections();
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const send = (status: number, body: unknown): void => {
      response.writeHead(status, { "Content-Type": "application/json", Connection: "close" });
      response.end(JSON.stringify(body));
    };
    try {
      const call = `${request.method} ${request.url}`;
      if (call === "GET /status") {
        send(200, this.#deps.status());
      } else if (call === "POST /down") {
        await this.#deps.down(parseDown(await readBody(request)));
        send(200, { ok: true });
      } else throw new HearthError("not_found");
    } catch (thrown) {
      const error = HearthError.from(thrown);
      send(error.status, { error: error.toWire() });
    }
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) {
    text += chunk;
    if (text.length > maxBodyBytes) throw new HearthError("payload_too_large");
  }
  return text;
}

function parseDown(text: string): DownRequest {
  let value: unknown;
  try {
    value = text === "" ? {} : JSON.parse(text);
  } catch (cause) {
    throw new HearthError("malformed_json", { cause });
  }
  if (Value.Check(DownRequest, value)) return value;
  throw new HearthError("invalid_argument", { message: "down takes timeout_ms and force." });
}
