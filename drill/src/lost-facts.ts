/** Compares what clients were told with what every API of the region, and the machines' workers, say now. */
import { setTimeout as delay } from "node:timers/promises";
import type { DrillNode } from "@hearth/worker";
import type { ApiProcess } from "./api-process.ts";
import type { Clients, KnownApp, KnownMachine } from "./clients.ts";

export interface Looked {
  readonly looked: number;
  /** A sentence each. */
  readonly lost: readonly string[];
}

/** What a restarted bus brings back comes within this time; a replica settles in two seconds. */
const convergeLimitMs = 45_000;
const together = 16;

/** @param share of what is known, 1 for all */
export async function findLost(
  region: { readonly apis: readonly ApiProcess[]; readonly nodes: readonly DrillNode[] },
  clients: Clients,
  share: () => boolean,
): Promise<Looked> {
  const looks: (() => Promise<string | undefined>)[] = [];
  for (const api of region.apis) {
    for (const app of clients.apps) if (share()) looks.push(() => lookAtApp(api, app));
    for (const machine of clients.machines)
      if (machine.id !== undefined && share()) looks.push(() => lookAtMachine(region.nodes, api, machine));
  }
  const deadline = Date.now() + convergeLimitMs;
  const lost: string[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: together }, async () => {
      for (let look = looks[next++]; look !== undefined; look = looks[next++]) {
        let found = await look();
        while (found !== undefined && Date.now() < deadline) {
          await delay(100);
          found = await look();
        }
        if (found !== undefined) lost.push(found);
      }
    }),
  );
  return { looked: looks.length, lost };
}

async function lookAtApp(api: ApiProcess, { name, state }: KnownApp): Promise<string | undefined> {
  if (state === "doubt") return undefined;
  const { status } = await api.call("GET", `/v1/apps/${name}`);
  if (state === "there") {
    if (status !== 200) return `${api.url}: the app ${name} is lost (${status})`;
    const again = await api.call("POST", "/v1/apps", { app_name: name });
    return again.status === 422
      ? undefined
      : `${api.url}: the name of the app ${name} was given again (${again.status})`;
  }
  return status === 404 ? undefined : `${api.url}: the app ${name} was deleted and is back (${status})`;
}

async function lookAtMachine(
  nodes: readonly DrillNode[],
  api: ApiProcess,
  machine: KnownMachine,
): Promise<string | undefined> {
  const path = `/v1/apps/${machine.app}/machines`;
  const { status, body } = await api.call("GET", `${path}/${machine.id}`);
  if (machine.state === "gone")
    return status === 404 || body?.state === "destroyed"
      ? undefined
      : `${api.url}: the machine ${machine.id} was destroyed and is back (${status}, ${body?.state})`;
  if (machine.state === "doubt") return undefined;
  const what = `${api.url}: the machine ${machine.id}`;
  if (status !== 200) return `${what} is lost (${status})`;
  const count: string | undefined = body.config?.metadata?.count;
  if (!machine.counts.includes(count))
    return `${what} has the metadata ${count}, not ${machine.counts.join(" or ")}`;
  const truth = await recordAtWorker(nodes, String(machine.id));
  if (truth === undefined) return `${what} is known to no worker`;
  for (const field of ["state", "instance_id", "name", "updated_at"])
    if (truth[field] !== body[field])
      return `${what}: its ${field} is ${body[field]}, at its worker ${truth[field]}`;
  const retried = await api.call("POST", path, machine.body, { "idempotency-key": machine.key });
  if (retried.body?.id !== machine.id)
    return `${what}: a retry of its create is answered with ${retried.status}`;
  const named = await api.call("POST", path, machine.body);
  if (named.status !== 422) return `${what}: its name was given again (${named.status})`;
  return undefined;
}

async function recordAtWorker(
  nodes: readonly DrillNode[],
  machineId: string,
): Promise<Readonly<Record<string, unknown>> | undefined> {
  for (const node of nodes) {
    const answer = await node.command("get", { machine_id: machineId }).catch(() => undefined);
    if (answer !== undefined) return (answer as { record: Record<string, unknown> }).record;
  }
  return undefined;
}
