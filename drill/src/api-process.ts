/** One API process of a region under a drill: what the host agent starts, from a config of a node as it writes it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { NodeConfig } from "@hearth/cluster";
import { repositoryRoot } from "@hearth/testkit";

const startLimitMs = 60_000;
const callLimitMs = 40_000;
export const drillToken = "drill-token-0123456789";

// biome-ignore lint/suspicious/noExplicitAny: answers of the public API are asserted field by field
export type Json = any;
export interface ApiAnswer {
  /** 0 when there was no answer. */
  readonly status: number;
  readonly body: Json;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

export class ApiProcess implements AsyncDisposable {
  readonly directory: string;
  readonly #config: NodeConfig;
  readonly #output: string[] = [];
  #child: ChildProcess | undefined;
  #url = "";

  constructor(directory: string, nats: NodeConfig["nats"], nodeId: string) {
    this.directory = directory;
    this.#config = {
      ...{ region: "local", node_id: nodeId, host_number: 1, prefix: "fd12:3456:789a::/48", nats },
      ...{ data_dir: join(directory, "data"), run_dir: join(directory, "run") },
      api: { host: "127.0.0.1", port: 0 },
      assets: { kernel: "/nonexistent", initrd: "/nonexistent" },
      ...{ accelerator: "tcg", capacity: { cpus: 1, memory_mb: 1 }, nameservers: [], warnings: [] },
    };
  }

  get url(): string {
    return this.#url;
  }

  /** The lines that it logged, newest last. */
  get log(): readonly string[] {
    return this.#output.join("").split("\n").filter(Boolean);
  }

  get replicaPath(): string {
    return join(this.#config.data_dir, "regional/replica.sqlite");
  }

  async start(): Promise<void> {
    mkdirSync(this.#config.data_dir, { recursive: true });
    writeFileSync(join(this.#config.data_dir, "token"), drillToken);
    const path = join(this.directory, "node.json");
    writeFileSync(path, JSON.stringify(this.#config));
    const child = spawn(process.execPath, [join(repositoryRoot, "services/regional/src/main.ts")], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { PATH: process.env.PATH, HEARTH_NODE_CONFIG: path },
    });
    this.#child = child;
    this.#url = await new Promise<string>((resolve, reject) => {
      const fail = (): void => reject(new Error(`the API did not start: ${this.#output.join("")}`));
      const limit = setTimeout(fail, startLimitMs);
      child.once("exit", fail);
      child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
        this.#output.push(chunk);
        const serving = /\{[^\n]*"url":"([^"]+)"[^\n]*"msg":"serving"/.exec(
          this.#output.join("").slice(-20_000),
        );
        if (serving?.[1] === undefined) return;
        clearTimeout(limit);
        child.removeListener("exit", fail);
        resolve(serving[1]);
      });
    });
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill(signal);
    await exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
  }

  async call(
    method: string,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<ApiAnswer> {
    const signal = AbortSignal.timeout(callLimitMs);
    const sent = request(`${this.#url}${path}`, {
      method,
      headers: { authorization: `Bearer ${drillToken}`, "content-type": "application/json", ...headers },
      signal,
    });
    sent.end(body === undefined ? undefined : JSON.stringify(body));
    try {
      const [answer] = await once(sent, "response", { signal });
      const read = await text(answer);
      return {
        status: answer.statusCode,
        body: read === "" ? undefined : JSON.parse(read),
        headers: answer.headers,
      };
    } catch {
      return { status: 0, body: undefined, headers: {} };
    }
  }
}
