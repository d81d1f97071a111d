/** `npm run drill -- wipe-jetstream`, `partition`, `mesh` and `front-door`: see `usage`. The last line is the result; the exit code is 1 when it is bad. */
import { drillArguments, onProgress, printReport } from "@hearth/worker";
import { runFrontDoor } from "./src/front-door.ts";
import { runMesh } from "./src/mesh.ts";
import { runPartition } from "./src/partition.ts";
import { runWipeJetstream } from "./src/wipe-jetstream.ts";

const usage = `usage: npm run drill -- wipe-jetstream [--seed S] [--writes N] [--json]
       npm run drill -- partition [--seed S] [--seconds N] [--json]
       npm run drill -- mesh [--json]
       npm run drill -- front-door [--json]`;

const { values, positionals, fail, whole } = drillArguments(usage, {
  seed: { type: "string", default: "1" },
  writes: { type: "string", default: "2000" },
  seconds: { type: "string", default: "180" },
  json: { type: "boolean", default: false },
});
const seed = whole("seed", values.seed);

async function wipeJetstream() {
  const report = await runWipeJetstream({ seed, writes: whole("writes", values.writes), onProgress });
  return { report, isGood: report.lost === 0 };
}

async function partition() {
  const report = await runPartition({ seed, seconds: whole("seconds", values.seconds), onProgress });
  return { report, isGood: report.found.length === 0 };
}

async function mesh() {
  const report = await runMesh({ onProgress });
  const { pairs_expected, pairs_connected, violations, names_wrong } = report;
  return { report, isGood: pairs_connected === pairs_expected && violations === 0 && names_wrong === 0 };
}

async function frontDoor() {
  const report = await runFrontDoor({ onProgress });
  return { report, isGood: report.ok };
}

const drills: Readonly<Record<string, () => Promise<{ report: object; isGood: boolean }>>> = {
  "wipe-jetstream": wipeJetstream,
  partition,
  mesh,
  "front-door": frontDoor,
};
const [name = "", ...more] = positionals;
const named = Object.hasOwn(drills, name) && more.length === 0 ? drills[name] : undefined;
const drill = named ?? fail("name one drill");
const { report, isGood } = await drill();
printReport({ drill: name, ...report }, values.json);
process.exit(isGood ? 0 : 1);
