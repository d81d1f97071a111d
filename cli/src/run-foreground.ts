/**
 * A program in the foreground: its output from its first byte, its exit code as ours, our signals as its own.
 *
 * An attach gives a program's output from its beginning also when the program has ended by then, and a destroyed
 * machine still answers for a while, so a program of one millisecond in a machine that destroys itself loses
 * nothing. For the same reason a session that broke is taken up again: what was printed already is passed over.
 */
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import type { ExecStatus } from "@hearth/machine";
import type { CreateMachine, ExecSession, HearthClient, Target } from "@hearth/sdk";
import type { Context } from "./context.ts";
import { exitCode } from "./failure.ts";
import { note, printJsonLine } from "./output.ts";
import { exitCodeOf } from "./program-end.ts";
import type { RunOptions } from "./run-config.ts";
import { type Outputs, processOutputs, relay } from "./session-relay.ts";
import { forwardSignals } from "./signals.ts";
import { warn } from "./warnings.ts";

const leaveLimitMs = 10_000;
const goneLimitMs = 60_000;
const brokenLimitMs = 60_000;
const brokenPauseMs = 500;
const brokenCodes: ReadonlySet<string> = new Set(["guest_channel_broken", "unavailable"]);
/** More than this a log may no longer hold from its beginning. */
const replayBytes = 8 * 1024 * 1024;

export interface Foreground {
  readonly context: Context;
  readonly wanted: CreateMachine;
  readonly options: RunOptions;
  /** Makes sure of the image and the app. */
  readonly prepare: (signal: AbortSignal) => Promise<void>;
}

export async function followProgram({ context, wanted, options, prepare }: Foreground): Promise<void> {
  const { app, rm = false, json = false } = options;
  const client = context.client();
  const preparing = new AbortController();
  const forced = Promise.withResolvers<"forced">();
  const early: number[] = [];
  let session: ExecSession | undefined;
  using _signals = forwardSignals((number, count) => {
    if (count >= 3) forced.resolve("forced");
    else if (session !== undefined) session.signal(number);
    else early.push(number);
    preparing.abort();
  });
  try {
    await prepare(preparing.signal);
  } catch (error) {
    if (!preparing.signal.aborted) throw error;
    context.exitCode = 128 + (early[0] ?? 2);
    return;
  }
  const machine = await client.machines.create(app, wanted);
  const target = { app, id: machine.id };
  warn(machine);
  if (json) printJsonLine({ kind: "created", machine });
  context.onBrokenPipe = () =>
    void leave(client, target, rm).finally(() => process.exit(exitCode.brokenPipe));
  const program = new AttachedProgram(client, target, {
    options,
    mayResume: wanted.config.restart?.policy === "no" && options.interactive !== true,
    onSession: (opened) => {
      session = opened;
      for (const number of early.splice(0)) opened.signal(number);
    },
  });
  let status: ExecStatus | "forced";
  try {
    status = await Promise.race([program.follow(), forced.promise]);
  } catch (error) {
    // Input that cannot be given is no reason to leave a machine behind that waits for it.
    const isUseless = rm || HearthError.from(error).code === "not_implemented";
    if (isUseless) await destroy(client, target);
    throw error;
  }
  if (status === "forced") {
    session?.close();
    await destroy(client, target);
    note(`hearth: the machine ${target.id} was destroyed`);
    context.exitCode = 128 + 9;
    return;
  }
  if (json) printJsonLine(status);
  if (rm) await (status.kind === "failed" ? destroy(client, target) : untilGone(client, target));
  context.exitCode = exitCodeOf(status);
}

interface AttachedDeps {
  readonly options: RunOptions;
  readonly mayResume: boolean;
  readonly onSession: (session: ExecSession) => void;
}

class AttachedProgram {
  readonly #client: HearthClient;
  readonly #target: Target;
  readonly #deps: AttachedDeps;
  #printed = { stdout: 0, stderr: 0 };

  constructor(client: HearthClient, target: Target, deps: AttachedDeps) {
    this.#client = client;
    this.#target = target;
    this.#deps = deps;
  }

  async follow(): Promise<ExecStatus> {
    const { interactive: stdin = false, tty = false } = this.#deps.options;
    let limitMs: number | undefined;
    for (;;) {
      try {
        await using session = await this.#client.machines.attach(this.#target, stdin ? { stdin } : {});
        limitMs = undefined;
        this.#deps.onSession(session);
        const status = await relay(session, { outputs: this.#outputs(), stdin, tty });
        const broken = await this.#brokenBy(status);
        if (broken === undefined) return status;
        throw broken;
      } catch (error) {
        limitMs ??= Date.now() + brokenLimitMs;
        if (!this.#mayResume(error) || Date.now() > limitMs) throw this.#explained(error);
        await delay(brokenPauseMs);
      }
    }
  }

  /** The API ends a session so as well when it has lost the node, and then the program goes on. */
  async #brokenBy(status: ExecStatus): Promise<HearthError | undefined> {
    if (status.kind === "exited" || !brokenCodes.has(status.code)) return undefined;
    const machine = await this.#client.machines.get(this.#target).catch(() => undefined);
    return machine?.state === "failed" ? undefined : HearthError.fromWire(status);
  }

  #mayResume(error: unknown): boolean {
    const { code } = HearthError.from(error);
    const { stdout, stderr } = this.#printed;
    return brokenCodes.has(code) && this.#deps.mayResume && stdout + stderr <= replayBytes;
  }

  #explained(error: unknown): unknown {
    if (HearthError.from(error).code !== "guest_channel_broken") return error;
    const { id } = this.#target;
    return new HearthError("guest_channel_broken", {
      message: `The connection to the program broke; its machine goes on. \`hearth logs -f ${id}\` shows its output.`,
      details: { machine_id: id },
      cause: error,
    });
  }

  #outputs(): Outputs {
    const to = processOutputs(this.#deps.options.json === true);
    const skip = { ...this.#printed };
    const pass = (name: "stdout" | "stderr") => async (data: Buffer) => {
      const rest = data.subarray(Math.min(skip[name], data.length));
      skip[name] -= data.length - rest.length;
      this.#printed[name] += rest.length;
      if (rest.length > 0) await to[name](rest);
    };
    return { stdout: pass("stdout"), stderr: pass("stderr") };
  }
}

/** Nobody reads what the program writes. */
async function leave(client: HearthClient, target: Target, rm: boolean): Promise<void> {
  const signal = AbortSignal.timeout(leaveLimitMs);
  const limited = { ...target, signal };
  const end = rm ? client.machines.destroy(limited, { force: true }) : client.machines.stop(limited);
  await end.catch(() => undefined); // it may have ended by itself
}

async function destroy(client: HearthClient, target: Target): Promise<void> {
  try {
    await client.machines.destroy(target, { force: true });
    await untilGone(client, target);
  } catch (error) {
    if (HearthError.from(error).code === "machine_not_found") return;
    note(`hearth: the machine ${target.id} is still there; \`hearth rm -f ${target.id}\` destroys it.`);
  }
}

async function untilGone(client: HearthClient, target: Target): Promise<void> {
  try {
    await client.machines.wait(target, { states: ["destroyed"], timeoutMs: goneLimitMs });
  } catch (error) {
    const { message } = HearthError.from(error);
    note(`hearth: the machine ${target.id} is not gone yet: ${message}`);
  }
}
