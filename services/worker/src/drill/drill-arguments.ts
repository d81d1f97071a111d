/** The command line of a drill: what is wrong with it is said with the usage, and ends the process with code 2. */
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";

export function drillArguments<Options extends ParseArgsOptionsConfig>(usage: string, options: Options) {
  const fail = (why: string): never => {
    process.stderr.write(`${why}\n${usage}\n`);
    return process.exit(2);
  };
  const whole = (name: string, text: string): number =>
    /^\d{1,9}$/.test(text) ? Number(text) : fail(`--${name} takes a whole number`);
  const read = () => {
    try {
      return parseArgs({ allowPositionals: true, options });
    } catch (error) {
      return fail(error instanceof Error ? error.message : String(error));
    }
  };
  return { ...read(), fail, whole };
}

/** Drills say what they do on stderr; stdout is the result. */
export const onProgress = (line: string): void => void process.stderr.write(`${line}\n`);

export function printReport(report: object, isJson: boolean): void {
  process.stdout.write(`${isJson ? JSON.stringify(report) : JSON.stringify(report, null, 2)}\n`);
}
