/** `hearth node`: the hosts of the region, and what operators want of them. */
import { setTimeout as delay } from "node:timers/promises";
import type { MachineMove, NodeStatus, NodeSummary } from "@hearth/sdk";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { exitCode } from "./failure.ts";
import { jsonOption, parsePositive } from "./options.ts";
import { formatBytes, note, printJson, printLine, printTable } from "./output.ts";

interface Json {
  readonly json?: boolean;
}
interface DrainOptions extends Json {
  readonly wait?: boolean;
  readonly timeout: number;
}

const drainPollMs = 500;
const drainLimitSeconds = 600;
const mib = 1024 ** 2;

const simple = {
  cordon: "place no new machine on a node; those that it has run on",
  uncordon: "place machines on the node again",
  undrain: "stop moving machines away, and place machines on the node again",
} as const;

export function define(command: Command, context: Context): void {
  command.addOption(jsonOption()).action(({ json = false }: Json) => list(context, json));
  command
    .command("list")
    .alias("ls")
    .description("list the nodes")
    .addOption(jsonOption())
    .action((_options, own: Command) => list(context, isJson(own)));
  command
    .command("show")
    .description("show a node, its machines and what becomes of them")
    .argument("<node>")
    .addOption(jsonOption())
    .action(async (node: string, _options, own: Command) => {
      const status = await context.client().node(node);
      if (isJson(own)) printJson(status);
      else show(status);
    });
  for (const [verb, text] of Object.entries(simple) as [keyof typeof simple, string][])
    command
      .command(verb)
      .description(text)
      .argument("<node>")
      .addOption(jsonOption())
      .action(async (node: string, _options, own: Command) => {
        const status = await context.client().changeNode(node, verb);
        if (isJson(own)) printJson(status);
        else printLine(`${node} ${status.state}`);
      });
  command
    .command("drain")
    .description("cordon a node and move its machines to others, one by one")
    .argument("<node>")
    .option("-w, --wait", "until no machine is left, or those that are cannot be moved")
    .option("--timeout <seconds>", "how long to wait", parsePositive, drainLimitSeconds)
    .addOption(jsonOption())
    .action((node: string, options: DrainOptions, own: Command) =>
      drain(context, node, { ...options, json: isJson(own) }),
    );
  command
    .command("remove")
    .alias("rm")
    .description("take a node out of the region")
    .argument("<node>")
    .option("-f, --force", "its host is gone for good: forget the machines that it had")
    .addOption(jsonOption())
    .action(async (node: string, { force = false }: { readonly force?: boolean }, own: Command) => {
      const { forgotten, bus } = await context.client().removeNode(node, { force });
      if (isJson(own)) return printJson({ removed: node, forgotten, ...(bus && { bus }) });
      printLine(node);
      if (bus !== undefined) note(busExit[bus]);
      if (forgotten.length > 0) note(`Forgotten: ${forgotten.join(", ")}`);
    });
}

const busExit = {
  left: "Its server of the bus is out: the others have another secret.",
  leaving:
    "Not all of the other servers of the bus have a new secret yet, so the node's server may still take part; they go on by themselves. `hearth doctor` on their hosts says what they wait for.",
} as const;

/** Also when it stands before the subcommand. */
const isJson = (command: Command): boolean => command.optsWithGlobals<Json>().json === true;

async function list(context: Context, json: boolean): Promise<void> {
  const nodes = await context.client().nodes();
  if (json) return printJson(nodes);
  const row = (node: NodeSummary) => [
    node.node_id,
    node.region,
    node.state ?? "",
    String(node.machines),
    `${formatBytes(node.free_memory_mb * mib)} of ${formatBytes(node.total_memory_mb * mib)}`,
    node.age_ms === undefined ? "" : `${Math.round(node.age_ms / 1000)}s`,
  ];
  printTable(["NODE", "REGION", "STATE", "MACHINES", "FREE MEMORY", "HEARD"], nodes.map(row));
  for (const { node_id, problems = [] } of nodes)
    for (const problem of problems) note(`${node_id}: ${problem}`);
}

function show(node: NodeStatus): void {
  const heard = Math.round((node.age_ms ?? 0) / 1000);
  printLine(`${node.node_id}  ${node.region}  ${node.state}, heard ${heard} s ago`);
  printLine(
    `${node.total_cpus} processors, ${formatBytes(node.free_memory_mb * mib)} free of ${formatBytes(node.total_memory_mb * mib)}`,
  );
  if (node.pressure !== undefined) {
    const { cpu_waiting, memory_used, disk_used } = node.pressure;
    const waiting = cpu_waiting === undefined ? "" : `, ${cpu_waiting} % of the time waiting for a processor`;
    printLine(`memory ${memory_used} % used, disk ${disk_used} % used${waiting}`);
  }
  for (const text of node.problems ?? []) printLine(`problem: ${text}`);
  for (const text of node.warnings) printLine(`note: ${text}`);
  moves(node);
}

function moves({ remaining, moved }: Pick<NodeStatus, "remaining" | "moved">): void {
  const row = (one: MachineMove, what: string) => [
    one.machine_id,
    one.app,
    one.name,
    one.state,
    what,
    one.why ?? "",
  ];
  const rows = [
    ...remaining.map((one) => row(one, one.to === null ? "here" : `moving to ${one.to}`)),
    ...moved.map((one) => row(one, `moved to ${one.to}`)),
  ];
  if (rows.length > 0) printTable(["MACHINE", "APP", "NAME", "STATE", "WHERE", "WHY NOT MOVED"], rows);
}

async function drain(
  context: Context,
  nodeId: string,
  { wait = false, timeout, json = false }: DrainOptions,
): Promise<void> {
  const client = context.client();
  let status = await client.changeNode(nodeId, "drain");
  const limit = AbortSignal.timeout(timeout * 1000);
  const shown = new Set<string>();
  while (wait && !isOver(status) && !limit.aborted) {
    if (!json)
      for (const one of status.moved)
        if (!shown.has(one.machine_id)) {
          shown.add(one.machine_id);
          note(`${one.app}/${one.name} (${one.machine_id}) moved to ${one.to}`);
        }
    await delay(drainPollMs, undefined, { signal: limit }).catch(() => undefined);
    status = await client.node(nodeId);
  }
  if (json) printJson(status);
  else {
    printLine(`${nodeId} ${status.state}`);
    moves(status);
  }
  if (wait && status.remaining.length > 0) context.exitCode = exitCode.failed;
}

/** Nothing is left, or nothing that is on its way or waits for its turn. */
const isOver = ({ remaining }: NodeStatus): boolean =>
  remaining.every(({ to, why }) => to === null && why !== null);
