/** `npm run drill -- crash-matrix [--sample N] [--seed S] [--operation NAME] [--json]` */
import { parseArgs } from "node:util";
import { runCrashMatrix } from "./crash-matrix.ts";
import { DrillNode, hostImage } from "./drill-node.ts";

const usage = "usage: npm run drill -- crash-matrix [--sample N] [--seed S] [--operation NAME]... [--json]";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sample: { type: "string" },
    seed: { type: "string", default: "1" },
    operation: { type: "string", multiple: true },
    json: { type: "boolean", default: false },
  },
});
if (positionals[0] !== "crash-matrix" || positionals.length > 1) {
  process.stderr.write(`${usage}\n`);
  process.exit(2);
}
let failed = false;
{
  await using node = new DrillNode("sim");
  await node.start(hostImage);
  const result = await runCrashMatrix(node, {
    seed: Number(values.seed),
    sample: values.sample === undefined ? undefined : Number(values.sample),
    operations: values.operation,
    onRun: (line) => void process.stderr.write(`${line}\n`),
  });
  failed = result.violations.length > 0;
  const { violations, ...counts } = result;
  const report = { driver: node.driver, ...counts, violations: violations.length, found: violations };
  process.stdout.write(`${values.json ? JSON.stringify(report) : JSON.stringify(report, null, 2)}\n`);
}
process.exit(failed ? 1 : 0);
