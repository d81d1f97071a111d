/** The agent as an ordinary process on a unix socket: the same program as in a machine, without the machine. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const crate = join(import.meta.dirname, "../../../../guest-agent");
export const agentTarget = "x86_64-unknown-linux-musl";
const dialLimitMs = 10_000;
const dialEveryMs = 5;

/** Why the agent cannot be built here, or false. */
export function missingForAgent(): string | false {
  try {
    execFileSync("cargo", ["--version"], { stdio: "ignore" });
    return false;
  } catch {
    return "this host has no cargo to build the agent with";
  }
}

/** The program that machines get. */
export function buildAgent(): string {
  execFileSync("cargo", ["build", "--quiet", "--release", "--target", agentTarget], {
    cwd: crate,
    stdio: ["ignore", "ignore", "inherit"],
  });
  return join(crate, "target", agentTarget, "release/hearth-guest-agent");
}

export class LocalAgent {
  readonly directory = mkdtempSync(join(tmpdir(), "hearth-guest-"));
  readonly process: ChildProcess;
  readonly #path = join(this.directory, "agent.sock");

  constructor(program: string) {
    this.process = spawn(program, ["--unix", this.#path], { stdio: "inherit" });
  }

  async dial(): Promise<Socket> {
    const limit = AbortSignal.timeout(dialLimitMs);
    for (;;) {
      limit.throwIfAborted();
      const socket = connect(this.#path);
      try {
        await once(socket, "connect", { signal: limit });
        return socket;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, dialEveryMs));
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      const ended = once(this.process, "exit");
      this.process.kill("SIGKILL");
      await ended;
    }
    rmSync(this.directory, { recursive: true });
  }
}
