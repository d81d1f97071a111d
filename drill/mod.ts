/** `npm run drill -- wipe-jetstream`: see `usage`. The last line is the result; the exit code is 1 when it is bad. */
import { parseArgs } from "node:util";
import { runWipeJetstream } from "./src/wipe-jetstream.ts";

const usage = "usage: npm run drill -- wipe-jetstream [--seed S] [--writes N] [--json]";

function fail(why: string): never {
  process.stderr.write(`${why}\n${usage}\n`);
  process.exit(2);
}

function whole(name: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) fail(`--${name} takes a whole number`);
  return Number(text);
}

function read() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        seed: { type: "string", default: "1" },
        writes: { type: "string", default: "2000" },
        json: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

const { values, positionals } = read();
if (positionals.length !== 1 || positionals[0] !== "wipe-jetstream") fail("name one drill");
const report = await runWipeJetstream({
  seed: whole("seed", values.seed),
  writes: whole("writes", values.writes),
  onProgress: (line) => void process.stderr.write(`${line}\n`),
});
const named = { drill: "wipe-jetstream", ...report };
process.stdout.write(`${values.json ? JSON.stringify(named) : JSON.stringify(named, null, 2)}\n`);
process.exit(report.lost === 0 ? 0 : 1);
