/** Environment variables for a program, from `-e` and `--env-file`. A name alone passes on one's own variable. */
import { readFile } from "node:fs/promises";
import { usage } from "./failure.ts";

export interface EnvOptions {
  readonly env?: readonly string[];
  readonly envFile?: readonly string[];
}

type LookUp = (name: string) => string | undefined;

/** What `-e` says counts more than what a file says. */
export async function readEnvOptions(
  { env = [], envFile = [] }: EnvOptions,
  lookUp: LookUp,
): Promise<Record<string, string>> {
  const result: Record<string, string> = {};
  for (const path of envFile) {
    const lines = (await readFile(path, "utf8")).split(/\r?\n/);
    for (const [index, line] of lines.entries()) {
      const text = line.trimStart();
      if (text !== "" && !text.startsWith("#")) assign(result, text, lookUp, `${path}:${index + 1}`);
    }
  }
  for (const pair of env) assign(result, pair, lookUp, "-e");
  return result;
}

function assign(result: Record<string, string>, pair: string, lookUp: LookUp, where: string): void {
  const at = pair.indexOf("=");
  const name = at < 0 ? pair : pair.slice(0, at);
  if (name === "" || /\s/.test(name)) throw usage(`${where}: "${pair}" is no variable; write NAME=value.`);
  const value = at < 0 ? lookUp(name) : pair.slice(at + 1);
  // Docker's custom: a name that is not set here is not set there.
  if (value !== undefined) result[name] = value;
}
