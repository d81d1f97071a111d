/** Starting the QEMU process, apart from what the VM then does. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import { guarded, inNetns, type VmmGuard } from "../port.ts";
import { processStartTime } from "./process.ts";
import { QmpClient, type QmpEvent } from "./qmp.ts";

const socketLimitMs = 10_000;
const socketPollMs = 4;
/** sizeof(sockaddr_un.sun_path) less the closing zero: unix(7). */
const socketPathBytes = 107;

export interface Launched {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly startTime: string;
  readonly qmp: QmpClient;
}

export interface LaunchOptions {
  readonly binary: string;
  readonly args: readonly string[];
  readonly guard?: VmmGuard | undefined;
  readonly netns?: string | undefined;
  readonly runDir: string;
  readonly sockets: readonly string[];
  readonly qmpSocket: string;
  readonly commandLimitMs: number;
  readonly onEvent: (event: QmpEvent) => void;
}

/** Runs QEMU in a session of its own, so that no signal for this process reaches it and it may outlive it. */
export async function launchQemu(options: LaunchOptions): Promise<Launched> {
  mkdirSync(options.runDir, { recursive: true, mode: 0o700 });
  for (const path of options.sockets) {
    if (Buffer.byteLength(path) > socketPathBytes) {
      throw new HearthError("vmm_start_failed", {
        message: `The run directory's path is too long for a unix socket; use one of fewer than ${socketPathBytes} bytes.`,
      });
    }
    rmSync(path, { force: true });
  }
  const logPath = `${options.runDir}/qemu.log`;
  const log = openSync(logPath, "w", 0o600);
  let child: ChildProcess;
  try {
    // The guard first: it stays where it was started, and there is no VMM without it.
    const command = inNetns(options.netns, [options.binary, ...options.args]);
    const [program = "", ...args] = guarded(options.guard, command);
    child = spawn(program, args, { detached: true, stdio: ["ignore", log, log] });
  } finally {
    closeSync(log);
  }
  const ended = new AbortController();
  const exited = Promise.withResolvers<never>();
  exited.promise.catch(() => undefined);
  child.once("error", (cause) => exited.reject(cause));
  child.once("exit", (code, signal) =>
    exited.reject(new Error(`QEMU ended (${signal ?? code}): ${readFileSync(logPath, "utf8").slice(-2000)}`)),
  );
  try {
    const qmp = await Promise.race([connectQmp(options, ended.signal), exited.promise]);
    const pid = child.pid ?? 0;
    const startTime = processStartTime(pid);
    if (startTime === null) throw new Error("QEMU ended while it started");
    child.unref();
    return { child, pid, startTime, qmp };
  } catch (cause) {
    ended.abort();
    child.kill("SIGKILL");
    throw new HearthError("vmm_start_failed", { cause });
  }
}

async function connectQmp(options: LaunchOptions, ended: AbortSignal): Promise<QmpClient> {
  const deadline = Date.now() + socketLimitMs;
  for (;;) {
    try {
      return await QmpClient.open(options.qmpSocket, options.onEvent, options.commandLimitMs);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      // QEMU has not come to its sockets yet; everything else is final.
      if ((code !== "ENOENT" && code !== "ECONNREFUSED") || Date.now() > deadline) throw error;
    }
    await delay(socketPollMs, undefined, { signal: ended });
  }
}
