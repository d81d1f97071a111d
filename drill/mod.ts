/** `npm run drill -- wipe-jetstream` and `partition`: see `usage`. The last line is the result; the exit code is 1 when it is bad. */
import { parseArgs } from "node:util";
import { runPartition } from "./src/partition.ts";
import { runWipeJetstream } from "./src/wipe-jetstream.ts";

const usage = `usage: npm run drill -- wipe-jetstream [--seed S] [--writes N] [--json]
       npm run drill -- partition [--seed S] [--seconds N] [--json]`;

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
        seconds: { type: "string", default: "180" },
        json: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

const { values, positionals } = read();
const seed = whole("seed", values.seed);
const onProgress = (line: string): void => void process.stderr.write(`${line}\n`);

async function wipeJetstream() {
  const report = await runWipeJetstream({ seed, writes: whole("writes", values.writes), onProgress });
  return { report, isGood: report.lost === 0 };
}

async function partition() {
  const report = await runPartition({ seed, seconds: whole("seconds", values.seconds), onProgress });
  return { report, isGood: report.found.length === 0 };
}

const drills: Readonly<Record<string, () => Promise<{ report: object; isGood: boolean }>>> = {
  "wipe-jetstream": wipeJetstream,
  partition,
};
const [name = "", ...more] = positionals;
const drill = Object.hasOwn(drills, name) && more.length === 0 ? drills[name] : undefined;
if (drill === undefined) fail("name one drill");
const { report, isGood } = await drill();
const named = { drill: name, ...report };
process.stdout.write(`${values.json ? JSON.stringify(named) : JSON.stringify(named, null, 2)}\n`);
process.exit(isGood ? 0 : 1);
