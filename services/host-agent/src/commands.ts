/** What a command line does with the agent of this host: start it, stop it, ask it. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError, type WireError } from "@hearth/errors";
import type { AgentStatus } from "./agent-status.ts";
import { agentDown, agentStatus } from "./control-client.ts";
import { socketPath } from "./host-agent.ts";
import { lockHolder } from "./instance-lock.ts";
import { type Joined, type JoinWish, joinRegion } from "./join-region.ts";
import { LogFile } from "./log-file.ts";
import { allGone } from "./process-identity.ts";
import { serviceProgram } from "./service-program.ts";
import { nodeArguments } from "./service-set.ts";
import {
  type AgentOptions,
  type AgentSettings,
  readSettings,
  serviceEnvironment,
  settingsEnvironment,
} from "./settings.ts";

export interface UpOptions extends AgentOptions {
  /** With false the agent stays in the foreground, logs to stderr, and `up` resolves when it has ended. */
  readonly detach?: boolean;
  /** Limit for becoming ready. */
  readonly timeoutMs?: number;
  /** Called with what is still awaited, when that changes. */
  readonly onProgress?: (status: AgentStatus) => void;
}

export interface UpResult {
  readonly status: AgentStatus;
  /** False when an agent was running already. */
  readonly started: boolean;
}

export interface DownOptions extends AgentOptions {
  /** What machines get to stop by themselves before they are killed. */
  readonly timeoutMs?: number;
  /** Goes on when the worker cannot stop its machines; these go on running. */
  readonly force?: boolean;
}

const pollMs = 50;

/**
 * Starts the agent of this host, or finds it running, and waits until the node takes work.
 * @throws HearthError `host_requirement_missing`, `conflict` (a port, another agent), `unavailable` with the last
 * lines of the log when it ends early, `deadline_exceeded` naming what does not answer
 */
export async function up(options: UpOptions = {}): Promise<UpResult> {
  const settings = readSettings(options);
  const running = lockHolder(settings.dataDir);
  const agent = running === undefined ? startAgent(settings, options.detach ?? true) : undefined;
  const path = socketPath(running?.runDir ?? settings.runDir);
  const status = await untilReady(path, agent, settings, options);
  if (agent !== undefined && options.detach === false) await agent.ended;
  return { status, started: agent !== undefined };
}

/**
 * Stops the machines of this host, then its services. False when no agent runs.
 * @throws HearthError `unavailable` when the worker did not stop its machines; then everything goes on as before
 */
export async function down(options: DownOptions = {}): Promise<boolean> {
  const settings = readSettings(options);
  const holder = lockHolder(settings.dataDir);
  if (holder === undefined) return false;
  const timeoutMs = options.timeoutMs ?? 15_000;
  const request = { timeout_ms: timeoutMs, force: options.force ?? false };
  await agentDown(socketPath(holder.runDir), request, timeoutMs + 90_000);
  if (await allGone([holder], 10_000)) return true;
  throw new HearthError("deadline_exceeded", { message: `The host agent (pid ${holder.pid}) does not end.` });
}

/** Undefined when no agent runs. @throws HearthError `unavailable` when it runs and does not answer */
export async function status(options: AgentOptions = {}): Promise<AgentStatus | undefined> {
  const holder = lockHolder(readSettings(options).dataDir);
  return holder === undefined ? undefined : await agentStatus(socketPath(holder.runDir));
}

export interface JoinOptions extends UpOptions, JoinWish {}

export interface JoinResult extends UpResult {
  readonly joined: Joined;
}

/**
 * Has this host join a region, and starts it as what the region lets it be.
 * @throws HearthError as `joinRegion` and `up` do
 */
export async function joinUp(options: JoinOptions): Promise<JoinResult> {
  const settings = readSettings(options);
  if (lockHolder(settings.dataDir) !== undefined) {
    throw new HearthError("already_joined", {
      message: `Hearth runs on ${settings.dataDir}; stop it with \`hearth down\` before the host joins anything.`,
    });
  }
  const joined = await joinRegion(settings, options);
  return { ...(await up(options)), joined };
}

interface StartedAgent {
  readonly child: ChildProcess;
  readonly ended: Promise<void>;
  readonly log: LogFile;
}

function startAgent(settings: AgentSettings, detach: boolean): StartedAgent {
  const log = new LogFile(join(settings.dataDir, "logs/agent.log"));
  const output = detach ? log.open() : "inherit";
  const child = spawn(process.execPath, [...nodeArguments, serviceProgram(settings, "host-agent")], {
    detached: detach,
    stdio: ["ignore", output, output],
    env: {
      ...serviceEnvironment(),
      ...settingsEnvironment(settings),
      NODE_COMPILE_CACHE: join(settings.dataDir, "compile-cache"),
    },
  });
  if (typeof output === "number") closeSync(output);
  if (detach) child.unref();
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
  return { child, ended, log };
}

async function untilReady(
  path: string,
  agent: StartedAgent | undefined,
  settings: AgentSettings,
  { timeoutMs = 60_000, onProgress }: UpOptions,
): Promise<AgentStatus> {
  const endMs = Date.now() + timeoutMs;
  let told = "";
  let last: AgentStatus | undefined;
  for (;;) {
    const now = await agentStatus(path).catch(() => undefined);
    if (now?.state === "ready") return now;
    last = now ?? last;
    if (now !== undefined && now.problems.join() !== told) {
      told = now.problems.join();
      onProgress?.(now);
    }
    if (agent !== undefined && agent.child.exitCode !== null) throw endedEarly(agent.log);
    if (Date.now() > endMs) throw notReady(last, settings, timeoutMs);
    await delay(pollMs);
  }
}

/** The agent's own last words are an error with a code, so they are passed on as they are. */
function endedEarly(log: LogFile): HearthError {
  for (const line of log.tail(20).reverse()) {
    const fatal = parseFatal(line);
    if (fatal !== undefined) return fatal;
  }
  return new HearthError("unavailable", {
    message: `The host agent ended while it started; ${log.path} says why.`,
  });
}

function parseFatal(line: string): HearthError | undefined {
  try {
    const { level, wire } = JSON.parse(line) as { level?: string; wire?: WireError };
    return level === "fatal" && wire !== undefined ? HearthError.fromWire(wire) : undefined;
  } catch {
    // Not every line is JSON: a crash of Node itself writes a stack.
    return undefined;
  }
}

function notReady(last: AgentStatus | undefined, settings: AgentSettings, limitMs: number): HearthError {
  const failing = last?.services.filter(({ state }) => state === "backoff") ?? [];
  const why = [
    ...(last?.problems ?? ["The host agent does not answer."]),
    ...failing.map(({ name, last_exit }) => {
      const log = new LogFile(join(settings.dataDir, "logs", `${name}.log`));
      return `${name} ended (${last_exit}): ${log.tail(3).join(" ")}`;
    }),
  ];
  return new HearthError("deadline_exceeded", {
    message: `The node was not ready within ${limitMs / 1000} s; it goes on trying. ${why.join(" ")}`,
    details: { problems: why },
  });
}
