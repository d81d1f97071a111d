/**
 * `ip`, `nft`, `tc` and `sysctl`, in one network namespace. What a machine's start waits for goes to a program that
 * is running already; where that one fails, and for all else, one is started.
 *
 * An `ip` that is kept remembers the index of an interface's name, so an interface that it is told of must have a
 * name that no other had before it: those of slots are random and used once.
 */
import { spawn } from "node:child_process";
import { HearthError } from "@hearth/errors";
import { LineSession, SessionBroken } from "./line-session.ts";
import { namespacePath } from "./slot-plan.ts";

export interface HostCommandsOptions {
  /** The network namespace (`ip netns`) to work in; the caller's own when absent. */
  readonly namespace?: string | undefined;
  readonly timeoutMs: number;
}

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Past this, starting a program costs less than what it has to do. */
const quickChars = 4_000;

export class HostCommands {
  readonly #options: HostCommandsOptions;
  readonly #ip: LineSession;
  readonly #nft: LineSession;

  constructor(options: HostCommandsOptions) {
    this.#options = options;
    const answerMs = options.timeoutMs;
    this.#ip = new LineSession({
      command: this.#inside(["ip", "-o", "-force", "-batch", "-"]),
      question: "link show dev lo",
      answer: /^\d+: lo: .*\n/m,
      answerMs,
    });
    this.#nft = new LineSession({
      command: this.#inside(["nft", "-i"]),
      question: "describe ip version",
      answer: /^payload expression, datatype .*\n/m,
      answerMs,
    });
  }

  /** Lines of `ip -batch`. Each must be one that may be done twice. */
  async quickIp(lines: readonly string[], signal?: AbortSignal): Promise<void> {
    await this.#quick(this.#ip, lines.join("\n"), () => this.batch(["ip"], lines, signal), signal);
  }

  /** One transaction, of commands that may be done twice. */
  async quickNft(commands: readonly string[], signal?: AbortSignal): Promise<void> {
    if (commands.length === 0) return;
    await this.#quick(this.#nft, commands.join("; "), () => this.nft(commands, signal), signal);
  }

  async nft(commands: readonly string[], signal?: AbortSignal): Promise<void> {
    await this.must(["nft", "-f", "-"], `${commands.join("\n")}\n`, signal);
  }

  async batch(command: readonly string[], lines: readonly string[], signal?: AbortSignal): Promise<void> {
    await this.must([...command, "-batch", "-"], `${lines.join("\n")}\n`, signal);
  }

  /** What it wrote. */
  async must(command: readonly string[], input: string, signal?: AbortSignal): Promise<string> {
    const done = await this.run(command, input, signal);
    if (done.code !== 0) throw refused(command.slice(0, 2).join(" "), done);
    return done.stdout;
  }

  async run(command: readonly string[], input: string, signal?: AbortSignal): Promise<Finished> {
    const limit = AbortSignal.timeout(this.#options.timeoutMs);
    const either = signal === undefined ? limit : AbortSignal.any([signal, limit]);
    return await run(this.#inside(command), input, either);
  }

  /** Ends the programs that are kept; the next command starts them again. */
  close(): void {
    this.#ip.close();
    this.#nft.close();
  }

  #inside(command: readonly string[]): string[] {
    const { namespace } = this.#options;
    return namespace === undefined
      ? [...command]
      : ["nsenter", `--net=${namespacePath(namespace)}`, ...command];
  }

  async #quick(
    session: LineSession,
    request: string,
    slowly: () => Promise<void>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (request.length > quickChars) return await slowly();
    let said: string;
    try {
      said = await session.ask(request, signal);
    } catch (cause) {
      if (!(cause instanceof SessionBroken)) throw new HearthError("deadline_exceeded", { cause });
      return await slowly();
    }
    if (said !== "") throw refused(request.slice(0, 80), { code: null, stdout: "", stderr: said });
  }
}

export function refused(what: string, done: Finished): HearthError {
  return new HearthError("internal", {
    message: "The host refused a change of its network; the service's log names the cause.",
    cause: new Error(`${what} ended with ${done.code}: ${done.stderr.trim()}`),
  });
}

function run(
  [program = "", ...args]: readonly string[],
  input: string,
  signal: AbortSignal,
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    // Nothing that was ended may act after it is said so.
    const child = spawn(program, args, { signal, stdio: "pipe", killSignal: "SIGKILL" });
    let failure: HearthError | undefined;
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
      failure =
        cause.code === "ENOENT"
          ? new HearthError("host_requirement_missing", { details: { program }, cause })
          : new HearthError(cause.name === "AbortError" ? "deadline_exceeded" : "internal", { cause });
      if (child.pid === undefined) reject(failure);
    });
    child.on("close", (code) => {
      if (failure === undefined) resolve({ code, stdout, stderr });
      else reject(failure);
    });
    child.stdin.end(input);
  });
}
