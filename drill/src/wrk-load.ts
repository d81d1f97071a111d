/** wrk with connections that are kept, at a modest pace, until it is told to stop; what it lost is read from its report. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

export interface WrkReport {
  readonly requests: number;
  readonly non_2xx: number;
  readonly socket_errors: number;
}

export interface WrkOptions {
  readonly url: string;
  readonly host: string;
  readonly connections: number;
  /** Of each connection, between two requests. */
  readonly pauseMs: number;
  /** For its script. */
  readonly directory: string;
}

/** It ends by itself after this, whatever becomes of who started it. */
const longest = "20m";
/** Above this wrk counts an answer as lost; a request may wait for a machine. */
const timeout = "120s";

export class WrkLoad {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown[]>;
  #output = "";

  constructor({ url, host, connections, pauseMs, directory }: WrkOptions) {
    const script = join(directory, "pace.lua");
    writeFileSync(script, `function delay() return ${pauseMs} end\n`);
    const args = ["-t", "1", "-c", String(connections), "-d", longest, "--timeout", timeout, "-s", script];
    this.#child = spawn("wrk", [...args, "-H", `Host: ${host}`, url], { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.on("data", (chunk: Buffer) => {
        this.#output += chunk.toString();
      });
    this.#ended = once(this.#child, "close");
    this.#ended.catch(() => undefined);
  }

  async stop(): Promise<WrkReport> {
    this.#child.kill("SIGINT");
    await this.#ended;
    return readWrkReport(this.#output);
  }
}

/** @throws Error for what is no report of wrk */
export function readWrkReport(output: string): WrkReport {
  const requests = /^\s*(\d+) requests in /m.exec(output)?.[1];
  if (requests === undefined) throw new Error(`wrk: ${output.trim()}`);
  const errors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(output);
  return {
    requests: Number(requests),
    non_2xx: Number(/Non-2xx or 3xx responses: (\d+)/.exec(output)?.[1] ?? 0),
    socket_errors: (errors ?? []).slice(1).reduce((sum, count) => sum + Number(count), 0),
  };
}
