/** `hearth mesh`: the network between hosts. */
import { setTimeout as delay } from "node:timers/promises";
import type { MeshStatus } from "@hearth/machine";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { exitCode } from "./failure.ts";
import { jsonOption, parsePositive } from "./options.ts";
import { formatBytes, note, printJson, printLine, printTable, type Row } from "./output.ts";

interface Json {
  readonly json?: boolean;
}
interface RotateOptions extends Json {
  readonly wait: boolean;
  readonly timeout: number;
}

const pollMs = 500;
const rotateLimitSeconds = 120;

export function define(command: Command, context: Context): void {
  const isJson = (own: Command): boolean => own.optsWithGlobals<Json>().json === true;
  command.addOption(jsonOption()).action((_options, own: Command) => status(context, isJson(own)));
  command
    .command("status")
    .description("show how each host reaches each other")
    .addOption(jsonOption())
    .action((_options, own: Command) => status(context, isJson(own)));
  command
    .command("rotate")
    .description("have all hosts make new keys and change over to them; traffic goes on meanwhile")
    .option("--no-wait", "return when it is wanted, not when it is done")
    .option("--timeout <seconds>", "how long to wait", parsePositive, rotateLimitSeconds)
    .addOption(jsonOption())
    .action((options: RotateOptions, own: Command) => rotate(context, { ...options, json: isJson(own) }));
}

async function status(context: Context, json: boolean): Promise<void> {
  const mesh = await context.client().mesh();
  if (json) return printJson(mesh);
  show(mesh);
}

function show(mesh: MeshStatus): void {
  if (mesh.state === "none") note("There is no mesh: no host reaches another.");
  printTable(
    ["NODE", "PEER", "ENDPOINT", "STATE", "HANDSHAKE", "RECEIVED", "SENT"],
    mesh.nodes.flatMap(({ node_id, peers, state }): Row[] =>
      peers.length === 0
        ? [[node_id, "", "", state]]
        : peers.map((peer) => [
            node_id,
            peer.node_id,
            peer.endpoint ?? "",
            peer.state,
            age(peer.latest_handshake_age_ms),
            formatBytes(peer.rx_bytes),
            formatBytes(peer.tx_bytes),
          ]),
    ),
  );
  for (const { node_id, problem, state } of mesh.nodes)
    if (problem !== null && state !== "off") note(`${node_id}: ${problem}`);
  if (mesh.state === "rotating") note(`Keys are being rotated to epoch ${mesh.epoch}.${waiting(mesh)}`);
}

const age = (ms: number | null): string => (ms === null ? "never" : `${Math.round(ms / 1000)}s ago`);

async function rotate(context: Context, { wait, timeout, json = false }: RotateOptions): Promise<void> {
  const client = context.client();
  let mesh = await client.rotateMesh();
  const endMs = Date.now() + timeout * 1000;
  while (wait && mesh.state === "rotating" && Date.now() < endMs) {
    await delay(pollMs);
    mesh = await client.mesh();
  }
  if (json) printJson(mesh);
  else if (mesh.state === "steady")
    printLine(`Keys of epoch ${mesh.epoch} are in use on all hosts that answer.`);
  else if (!wait) printLine(`Keys of epoch ${mesh.epoch} are wanted.`);
  if (!wait || mesh.state === "steady") return;
  note(
    `The rotation goes on; the old keys work until it is done. \`hearth mesh status\` says how it stands.${waiting(mesh)}`,
  );
  context.exitCode = exitCode.failed;
}

function waiting({ nodes }: MeshStatus): string {
  const names = [...new Set(nodes.flatMap(({ waits_for }) => waits_for))].sort();
  return names.length === 0 ? "" : ` It waits for ${names.join(", ")}.`;
}
