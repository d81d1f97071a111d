/** `npm run drill -- crash-matrix|step-faults|churn`: see `usage`. The last line is the result; the exit code is 1 when it is bad. */
import { runChurn } from "./churn.ts";
import { runCrashMatrix } from "./crash-matrix.ts";
import { drillArguments, onProgress, printReport } from "./drill-arguments.ts";
import { busyboxImage, DrillNode, hostImage } from "./drill-node.ts";
import { runStepFaults } from "./step-faults.ts";

const usage = `usage: npm run drill -- crash-matrix [--sample N] [--seed S] [--operation NAME]... [--driver sim|qemu] [--jobs N] [--json]
       npm run drill -- step-faults [--operation NAME]... [--driver sim|qemu] [--jobs N] [--json]
       npm run drill -- churn [--machines N] [--seed S] [--driver sim|qemu] [--json]

sim: the worker, its database, networks and firewall are real, and the guest agent is; the virtual machine is a process that
stands for one. qemu: all of it is real. jobs: so many nodes share the runs.`;

const { values, positionals, fail, whole } = drillArguments(usage, {
  sample: { type: "string" },
  seed: { type: "string", default: "1" },
  machines: { type: "string", default: "200" },
  operation: { type: "string", multiple: true },
  driver: { type: "string", default: "sim" },
  jobs: { type: "string", default: "1" },
  json: { type: "boolean", default: false },
});
const [drill] = positionals;
if (positionals.length !== 1 || (drill !== "crash-matrix" && drill !== "step-faults" && drill !== "churn"))
  fail("name one drill");
const seed = whole("seed", values.seed);

const driver =
  values.driver === "sim" || values.driver === "qemu" ? values.driver : fail("--driver is sim or qemu");
const jobs = Math.max(1, whole("jobs", values.jobs));

const nodes = new Set<DrillNode>();

async function startNode(): Promise<DrillNode> {
  const node = new DrillNode(driver);
  nodes.add(node);
  await node.start(driver === "sim" ? hostImage : busyboxImage);
  return node;
}

async function renew(worn: DrillNode): Promise<DrillNode> {
  nodes.delete(worn);
  await worn[Symbol.asyncDispose]();
  return await startNode();
}

async function endNodes(): Promise<void> {
  await Promise.all([...nodes].map((node) => node[Symbol.asyncDispose]()));
}

async function run(
  node: DrillNode,
  more: readonly DrillNode[],
): Promise<{ readonly report: object; readonly bad: number }> {
  if (drill === "churn") {
    const report = await runChurn(node, { machines: whole("machines", values.machines), seed, onProgress });
    return { report, bad: report.leaked };
  }
  if (drill === "step-faults") {
    const options = { operations: values.operation, onRun: onProgress };
    const { violations, ...counts } = await runStepFaults([node, ...more], options);
    return {
      report: { ...counts, violations: violations.length, found: violations },
      bad: violations.length,
    };
  }
  const sample = values.sample === undefined ? undefined : whole("sample", values.sample);
  const options = { seed, sample, operations: values.operation, onRun: onProgress, renew };
  const { violations, ...counts } = await runCrashMatrix([node, ...more], options);
  return { report: { ...counts, violations: violations.length, found: violations }, bad: violations.length };
}

let bad = 0;
{
  await using _ending = { [Symbol.asyncDispose]: endNodes };
  const more: DrillNode[] = [];
  const first = await startNode();
  for (let count = 1; count < (drill === "churn" ? 1 : jobs); count += 1) more.push(await startNode());
  const done = await run(first, more);
  bad = done.bad;
  const report = { drill, driver, ...done.report };
  printReport(report, values.json);
}
process.exit(bad === 0 ? 0 : 1);
