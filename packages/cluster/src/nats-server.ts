/**
 * One process of nats-server.
 *
 * What is secret is in a file of mode 0600 and not on the command line, where every user of the host could
 * read it. Readiness is the log line of the server that says it accepts clients, which it prints after
 * JetStream has recovered its store.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import { type NatsServerConfig, renderNatsConfig } from "./nats-config.ts";

export interface NatsServerOptions extends NatsServerConfig {
  readonly binary?: string;
  readonly startTimeoutMs?: number;
  readonly stopTimeoutMs?: number;
  /** Of its process, beside this one's. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Each line that the server logs. */
  readonly onLog?: (line: string) => void;
}

const reloadLimitMs = 5_000;

export class NatsServer {
  readonly #options: NatsServerOptions;
  #child: ChildProcess | undefined;
  #exited: Promise<unknown> | undefined;
  #reloaded: () => void = () => undefined;

  constructor(options: NatsServerOptions) {
    this.#options = options;
  }

  get url(): string {
    return `nats://${this.#options.host ?? "127.0.0.1"}:${this.#options.port}`;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Resolves when the server has exited, whoever ended it; a supervisor waits on this. */
  async exited(): Promise<void> {
    await this.#exited;
  }

  /**
   * Has the server read its configuration again, and waits until it has; it does so without a break for those whose rights
   * stay. @throws HearthError `deadline_exceeded`
   */
  async reload(config: NatsServerConfig): Promise<void> {
    await writeFile(join(config.dir, "nats.conf"), renderNatsConfig(config), { mode: 0o600 });
    const done = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () =>
          reject(
            new HearthError("deadline_exceeded", { message: "nats-server did not take its configuration." }),
          ),
        reloadLimitMs,
      );
      this.#reloaded = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#child?.kill("SIGHUP");
    await done;
  }

  /** Starts the server and waits until it accepts clients. Throws `unavailable` or `deadline_exceeded`. */
  async start(): Promise<void> {
    const { dir } = this.#options;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const path = join(dir, "nats.conf");
    await writeFile(path, renderNatsConfig(this.#options), { mode: 0o600 });
    const child = spawn(this.#options.binary ?? "nats-server", ["-c", path], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, ...this.#options.environment },
    });
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      child.once("exit", resolve);
      child.once("error", resolve);
    });
    try {
      await this.#ready(child);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Asks the server to end, then kills it at the limit. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const killer = setTimeout(() => child.kill("SIGKILL"), this.#options.stopTimeoutMs ?? 5_000);
    const exit = once(child, "exit");
    child.kill(signal);
    await exit;
    clearTimeout(killer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #ready(child: ChildProcess): Promise<void> {
    let tail = "";
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new HearthError("deadline_exceeded", { message: "nats-server did not become ready." })),
        this.#options.startTimeoutMs ?? 10_000,
      );
      const failed = (cause: unknown): void => {
        clearTimeout(timer);
        reject(new HearthError("unavailable", { message: "nats-server did not start.", cause }));
      };
      child.once("error", failed);
      child.once("exit", (code) => failed(new Error(`nats-server exited with ${code}: ${tail}`)));
      let rest = "";
      child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          tail = (tail + line).slice(-2_000);
          this.#options.onLog?.(line);
          if (line.includes("Reloaded server configuration")) this.#reloaded();
          if (line.includes("Server is ready")) {
            clearTimeout(timer);
            resolve();
          }
        }
      });
    });
  }
}
