/** Calls of the agent's control socket. */
import { request } from "node:http";
import { HearthError, type WireError } from "@hearth/errors";
import type { AgentStatus } from "./agent-status.ts";
import type { DownRequest } from "./control-server.ts";

/** @throws HearthError `unavailable` when nobody listens, and what the agent answers */
export const agentStatus = (socketPath: string, limitMs = 5_000): Promise<AgentStatus> =>
  call({ socketPath, method: "GET", path: "/status", limitMs }) as Promise<AgentStatus>;

export async function agentDown(socketPath: string, body: DownRequest, limitMs: number): Promise<void> {
  await call({ socketPath, method: "POST", path: "/down", body, limitMs });
}

interface Call {
  readonly socketPath: string;
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  readonly limitMs: number;
}

function call({ socketPath, method, path, body, limitMs }: Call): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown): void =>
      reject(new HearthError("unavailable", { message: "The host agent does not answer.", cause }));
    const outgoing = request(
      { socketPath, method, path, agent: false, signal: AbortSignal.timeout(limitMs) },
      (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        answer.on("error", fail).on("end", () => {
          try {
            const value = JSON.parse(text) as { error?: WireError };
            if (answer.statusCode === 200) resolve(value);
            else reject(HearthError.fromWire(value.error ?? {}));
          } catch (cause) {
            fail(cause);
          }
        });
      },
    );
    outgoing.on("error", fail);
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
