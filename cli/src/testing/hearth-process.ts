/** The real command as a process, against the fake of the API. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Readable, Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { type FakeApi, type Machine, startFakeApi } from "@hearth/sdk";

export const launcher = resolve(import.meta.dirname, "../../bin/hearth");
const limitMs = 60_000;

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export type HearthProcess = ChildProcessByStdio<Writable, Readable, Readable>;

export interface CliHost extends AsyncDisposable {
  readonly api: FakeApi;
  /** For files of the test. */
  readonly directory: string;
  /** @param program in place of the command, with its environment */
  start(args: readonly string[], environment?: NodeJS.ProcessEnv, program?: string): HearthProcess;
  /** Runs to the end. */
  hearth(args: readonly string[], input?: string): Promise<Ended>;
  /** A detached machine, by its id. */
  machine(...args: string[]): Promise<string>;
  /** As the API knows it now. */
  record(id: string): Machine | undefined;
}

export async function cliHost(): Promise<CliHost> {
  const api = await startFakeApi();
  const directory = await mkdtemp(join(tmpdir(), "hearth-cli-"));
  const children = new Set<HearthProcess>();
  const start: CliHost["start"] = (args, environment = {}, program = launcher) => {
    const child = spawn(program, args, {
      cwd: directory,
      env: {
        PATH: process.env.PATH,
        HEARTH_API_URL: api.apiUrl,
        HEARTH_TOKEN: api.token,
        HEARTH_DATA_DIR: join(directory, "data"),
        HEARTH_RUN_DIR: join(directory, "run"),
        ...environment,
      },
      stdio: ["pipe", "pipe", "pipe"],
    });
    child.stdin.on("error", () => undefined);
    children.add(child);
    child.once("exit", () => children.delete(child));
    return child;
  };
  const hearth: CliHost["hearth"] = (args, input = "") => {
    const child = start(args);
    child.stdin.end(input);
    return ended(child);
  };
  return {
    api,
    directory,
    start,
    hearth,
    async machine(...args) {
      const run = await hearth(["run", "-d", ...args]);
      if (run.code !== 0) throw new Error(run.stderr);
      return run.stdout.trim();
    },
    record(id) {
      for (const machines of api.apps.values()) {
        const machine = machines.get(id);
        if (machine !== undefined) return machine.record();
      }
      return undefined;
    },
    async [Symbol.asyncDispose]() {
      // Nothing, unless the test failed.
      for (const child of children) child.kill("SIGKILL");
      await api[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

export async function ended(child: HearthProcess): Promise<Ended> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (data: Buffer) => stdout.push(data)).resume();
  child.stderr.on("data", (data: Buffer) => stderr.push(data));
  const timer = setTimeout(() => child.kill("SIGKILL"), limitMs);
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(timer);
  const text = (chunks: Buffer[]): string => Buffer.concat(chunks).toString();
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

/** Resolves when the process has written the text to its stdout; what came with it is kept in the stream. */
export async function untilSaid(child: HearthProcess, text: string): Promise<void> {
  let said = "";
  const chunks: Buffer[] = [];
  await new Promise<void>((done, fail) => {
    const timer = setTimeout(() => fail(new Error(`it never said ${text}; it said ${said}`)), limitMs);
    const take = (data: Buffer): void => {
      chunks.push(data);
      said += data.toString();
      if (!said.includes(text)) return;
      clearTimeout(timer);
      child.stdout.off("data", take);
      child.stdout.pause();
      done();
    };
    child.stdout.on("data", take).resume();
  });
  child.stdout.unshift(Buffer.concat(chunks));
}

export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = Date.now() + limitMs;
  while (!(await holds())) {
    if (Date.now() > endMs) throw new Error(`${what}: not within ${limitMs} ms`);
    await delay(10);
  }
}

/** The most memory that the process ever held. */
export function peakMib({ pid }: HearthProcess): number {
  const [, kib = "0"] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kib) / 1024;
}

/** Lines of JSON. */
// biome-ignore lint/suspicious/noExplicitAny: what a command prints is asserted field by field
export const lines = (text: string): any[] =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
