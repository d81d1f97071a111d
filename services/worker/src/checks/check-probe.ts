/**
 * One probe of one health check. HTTP and TCP go from the host to the machine's private address over a connection
 * of their own; `exec` goes through the guest agent. The machine is not trusted: it is read from no further than
 * an output needs, redirects are not followed, and whoever calls ends a probe by its signal.
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage, STATUS_CODES } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { HearthError } from "@hearth/errors";
import type { GuestClient } from "@hearth/guest";
import type { ExecProbe, HttpProbe, Probe, TcpProbe } from "@hearth/machine";
import { printableText } from "../guest/printable-text.ts";
import { maxCheckOutput, type Seen } from "./machine-checks.ts";

export type Connect = (to: { readonly host: string; readonly port: number }) => Socket;

export interface ProbeTarget {
  /** The machine's private address. */
  readonly host: string;
  readonly connect: Connect;
  /** The user and the directory that a program of the machine has. */
  readonly user: string;
  readonly workdir: string;
  readonly call: <T>(
    work: (client: GuestClient, signal: AbortSignal) => Promise<T>,
    signal: AbortSignal,
  ) => Promise<T>;
}

const maxHeaderBytes = 16 * 1024;

/** Never rejects: what went wrong is what was seen. */
export async function probeOnce(probe: Probe, target: ProbeTarget, signal: AbortSignal): Promise<Seen> {
  try {
    switch (probe.type) {
      case "http":
        return await probeHttp(probe, target, signal);
      case "tcp":
        return await probeTcp(probe, target, signal);
      case "exec":
        return await probeExec(probe, target, signal);
    }
  } catch (error) {
    return { passing: false, output: printableText(reasonOf(error), maxCheckOutput) };
  }
}

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  EHOSTUNREACH: "the machine's address does not answer",
  ETIMEDOUT: "the machine's address does not answer",
};

function reasonOf(error: unknown): string {
  if (error instanceof HearthError || !(error instanceof Error)) return HearthError.from(error).message;
  // Some texts of Node go on with advice for whoever runs Node.
  return (
    reasons[(error as NodeJS.ErrnoException).code ?? ""] ?? error.message.replace(/; if the root CA.*/, "")
  );
}

function probeTcp({ port }: TcpProbe, { host, connect }: ProbeTarget, signal: AbortSignal): Promise<Seen> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const socket = connect({ host, port });
    const abort = (): void => void socket.destroy(new HearthError("cancelled", { cause: signal.reason }));
    signal.addEventListener("abort", abort, { once: true });
    socket.once("connect", () => {
      resolve({ passing: true, output: `connected to port ${port}` });
      socket.destroy();
    });
    socket.on("error", reject);
    socket.once("close", () => signal.removeEventListener("abort", abort));
  });
}

function probeHttp(probe: HttpProbe, target: ProbeTarget, signal: AbortSignal): Promise<Seen> {
  return new Promise((resolve, reject) => {
    const request = openRequest(probe, target, signal);
    request.on("error", reject);
    request.once("response", (response) => {
      const status = response.statusCode ?? 0;
      const passing = status >= 200 && status < 300;
      // Of what is well the status is enough, and is always the same; a body says why something is not.
      void (passing ? Promise.resolve(Buffer.alloc(0)) : readStart(response))
        .then((body) => resolve({ passing, output: httpOutput(status, body) }), reject)
        .finally(() => request.destroy());
    });
    request.end();
  });
}

function openRequest(probe: HttpProbe, { host, connect }: ProbeTarget, signal: AbortSignal): ClientRequest {
  const { port, method, path, tls } = probe;
  const headers: Record<string, string | string[]> = { "user-agent": "hearth-check", connection: "close" };
  for (const { name, values } of probe.headers) {
    const [only = ""] = values;
    headers[name.toLowerCase()] = values.length > 1 ? [...values] : only;
  }
  // No agent: with one, also with `agent: false`, Node makes the connection itself.
  const options = { host, port, method, path, headers, signal, maxHeaderSize: maxHeaderBytes };
  if (tls === undefined) return httpRequest({ ...options, createConnection: () => connect({ host, port }) });
  const { verify: rejectUnauthorized, serverName } = tls;
  return httpsRequest({
    ...options,
    createConnection: () => {
      const servername = serverName === undefined ? {} : { servername: serverName };
      return connectTls({ socket: connect({ host, port }), host, rejectUnauthorized, ...servername });
    },
  });
}

/** What the output may need of a body, and not one chunk more; of one that breaks off, what came. */
async function readStart(response: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  try {
    for await (const part of response as AsyncIterable<Buffer>) {
      parts.push(part);
      length += part.length;
      if (length >= maxCheckOutput) break;
    }
  } catch {
    // The status was said, which is what counts.
  }
  return Buffer.concat(parts);
}

function httpOutput(status: number, body: Buffer): string {
  const line = `${status} ${STATUS_CODES[status] ?? ""}`.trim();
  const said = printableText(body, maxCheckOutput);
  return (said === "" ? line : `${line}: ${said}`).slice(0, maxCheckOutput);
}

async function probeExec({ command }: ExecProbe, target: ProbeTarget, signal: AbortSignal): Promise<Seen> {
  const { user, workdir, call } = target;
  return await call(async (client, limit) => {
    const said: Uint8Array[] = [];
    let length = 0;
    for await (const { response } of client.exec(start(command, user, workdir), { signal: limit })) {
      if ((response.case === "stdout" || response.case === "stderr") && length < maxCheckOutput) {
        said.push(response.value);
        length += response.value.length;
      }
      if (response.case === "exited")
        return execSeen(response.value, printableText(Buffer.concat(said), maxCheckOutput));
    }
    throw new HearthError("guest_channel_broken");
  }, signal);
}

async function* start(argv: readonly string[], user: string, workdir: string) {
  const value = { argv: [...argv], user, workdir };
  yield { request: { case: "start" as const, value } };
  yield { request: { case: "closeStdin" as const, value: {} } };
}

function execSeen(exit: { readonly code: number; readonly signal: number }, said: string): Seen {
  const passing = exit.code === 0 && exit.signal === 0;
  if (passing) return { passing, output: said === "" ? "exit code 0" : said };
  const ended = exit.signal > 0 ? `signal ${exit.signal}` : `exit code ${exit.code}`;
  return { passing, output: (said === "" ? ended : `${ended}: ${said}`).slice(0, maxCheckOutput) };
}
