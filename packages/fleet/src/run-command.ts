/** One program of the host, run to its end with a limit. */
import { spawn } from "node:child_process";
import { HearthError } from "@hearth/errors";

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly limitMs?: number;
}

const defaultLimitMs = 20_000;

/** Programs of root that a login of a plain user has not in its path. */
export const withSbin = (path = "/usr/bin:/bin"): string => `${path}:/usr/local/sbin:/usr/sbin:/sbin`;

/** @throws HearthError `host_requirement_missing` naming the program, `deadline_exceeded` */
export function run(
  [program = "", ...args]: readonly string[],
  { input = "", env = process.env, limitMs = defaultLimitMs }: RunOptions = {},
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { ...env, PATH: withSbin(env.PATH) }, stdio: "pipe" });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      stdout += chunk;
    });
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      stderr += chunk;
    });
    const limit = setTimeout(() => {
      child.kill("SIGKILL");
      const message = `${program} ${args.join(" ")} did not end within ${limitMs} ms. ${stderr}`;
      reject(new HearthError("deadline_exceeded", { message }));
    }, limitMs);
    // A program that ends without reading its input breaks the pipe; its exit code says why.
    child.stdin.on("error", () => undefined);
    child.on("error", (cause) => {
      clearTimeout(limit);
      reject(new HearthError("host_requirement_missing", { details: { program }, cause }));
    });
    child.on("close", (code) => {
      clearTimeout(limit);
      resolve({ code, stdout, stderr });
    });
    child.stdin.end(input);
  });
}

/** What the program printed. @throws HearthError `internal` with its words when it fails */
export async function must(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(command, options);
  if (code === 0) return stdout;
  throw new HearthError("internal", {
    message: `\`${command.join(" ")}\` ended with ${code}: ${stderr.trim() || stdout.trim()}`,
  });
}
