/** Programs of the host that change or read its network, in this network namespace or another, each with a limit. */
import { spawn } from "node:child_process";
import { HearthError } from "@hearth/errors";

export interface HostCommandsOptions {
  /** The network namespace (`ip netns`) to work in; the caller's own when absent. */
  readonly namespace?: string;
  readonly commandTimeoutMs?: number;
}

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class HostCommands {
  readonly #inside: readonly string[];
  readonly #timeoutMs: number;

  constructor({ namespace, commandTimeoutMs = 10_000 }: HostCommandsOptions = {}) {
    this.#inside = namespace === undefined ? [] : ["ip", "netns", "exec", namespace];
    this.#timeoutMs = commandTimeoutMs;
  }

  /** To its end, however it ends. @throws HearthError `host_requirement_missing`, `deadline_exceeded` */
  run(command: readonly string[], input = "", signal?: AbortSignal): Promise<Finished> {
    const limit = AbortSignal.timeout(this.#timeoutMs);
    const both = signal === undefined ? limit : AbortSignal.any([signal, limit]);
    return spawnToEnd([...this.#inside, ...command], input, both);
  }

  /** What it wrote. @throws HearthError as `run`, and `internal` when it does not end well */
  async must(command: readonly string[], input = "", signal?: AbortSignal): Promise<string> {
    const done = await this.run(command, input, signal);
    if (done.code !== 0) throw refused(command.slice(0, 2).join(" "), done);
    return done.stdout;
  }
}

export function refused(what: string, done: Finished): HearthError {
  return new HearthError("internal", {
    message: "The host refused a change of its network; the service's log names the cause.",
    cause: new Error(`${what} ended with ${done.code}: ${done.stderr.trim()}`),
  });
}

function spawnToEnd(
  [program = "", ...args]: readonly string[],
  input: string,
  signal: AbortSignal,
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { signal, stdio: "pipe" });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      stdout += chunk;
    });
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      stderr += chunk;
    });
    // A program that ends without reading its input breaks the pipe; its exit code says why.
    child.stdin.on("error", () => undefined);
    child.on("error", (cause: NodeJS.ErrnoException) => {
      if (cause.code === "ENOENT")
        reject(new HearthError("host_requirement_missing", { details: { program }, cause }));
      else reject(new HearthError(cause.name === "AbortError" ? "deadline_exceeded" : "internal", { cause }));
    });
    child.on("close", (code) => resolve({ code, stdout, stderr }));
    child.stdin.end(input);
  });
}
