/**
 * Apps as facts. An app is acknowledged when the stream has it and this replica has it on disk. Apps of one
 * organisation share a private network unless they name another one.
 */
import { HearthError } from "@hearth/errors";
import { type EgressPolicyInput, factKeys, parseEgressPolicy } from "@hearth/machine";
import type { ApiContext } from "../api-context.ts";
import { releaseAll } from "../certificates/hostnames.ts";
import { untilMachine } from "../machines/machine-access.ts";
import type { StoredApp } from "../state/cluster-view.ts";
import { writeFact } from "../state/write-fact.ts";
import { newEgress } from "./app-egress.ts";
import { ensureNetwork, isStill, networkGoes } from "./networks.ts";

const destroyLimitMs = 30_000;

export interface NewApp {
  readonly name: string;
  readonly orgSlug: string;
  readonly network: string;
  readonly egress?: EgressPolicyInput | undefined;
}

/** @throws HearthError `name_taken`, `invalid_argument` */
export async function createApp(context: ApiContext, wanted: NewApp): Promise<StoredApp> {
  const { view, nowMs, randomBytes } = context;
  parseEgressPolicy(wanted.egress ?? {});
  const network = { orgSlug: wanted.orgSlug, name: wanted.network };
  if (view.findApp(wanted.name) !== undefined) throw nameTaken(wanted.name);
  const fact: StoredApp = {
    id: Buffer.from(randomBytes(8)).toString("hex"),
    name: wanted.name,
    org_slug: wanted.orgSlug,
    network: (await ensureNetwork(context, network)).network,
    network_name: wanted.network,
    ...(wanted.egress === undefined ? {} : { egress: newEgress(context, wanted.egress, undefined) }),
    created_at_ms: nowMs(),
  };
  const key = factKeys.app(wanted.name);
  const revision = await writeFact(context, { key, value: fact, expectedRevision: 0 }).catch(
    (thrown: unknown) => {
      throw HearthError.from(thrown).code === "conflict" ? nameTaken(wanted.name) : thrown;
    },
  );
  if (!isStill(context, network, fact.network)) {
    await writeFact(context, { key, value: undefined, expectedRevision: revision });
    throw networkGoes(network);
  }
  return fact;
}

/** @throws HearthError `conflict` while machines exist, unless `force`, which destroys them */
export async function deleteApp(context: ApiContext, name: string, force: boolean): Promise<void> {
  const { view } = context;
  const app = view.app(name);
  const machines = view.machineSummaries(name).filter(({ state }) => state !== "destroyed");
  if (machines.length > 0 && !force) {
    throw new HearthError("conflict", {
      message: `The app "${name}" still has ${machines.length} machines; destroy them first, or delete with force=true.`,
      details: { app: name, machines: machines.map(({ id }) => id) },
    });
  }
  await Promise.all(machines.map(({ id }) => destroyed(context, id)));
  for (const { key } of view.replica.list(factKeys.machineName(name, "")))
    await writeFact(context, { key, value: undefined });
  await writeFact(context, { key: factKeys.app(name), value: undefined });
  await releaseAll(context, app);
}

async function destroyed(context: ApiContext, id: string): Promise<void> {
  const fact = context.view.findMachine(id);
  if (fact === undefined) return;
  await context.access.change(fact, "destroy", { force: true });
  const isGone = (seen: typeof fact | undefined): boolean =>
    seen === undefined || seen.record.state === "destroyed";
  if (await untilMachine(context.view, id, isGone, destroyLimitMs)) return;
  throw new HearthError("deadline_exceeded", {
    message: `The machine ${id} is being destroyed and is not gone yet; delete the app again in a moment.`,
    details: { machine_id: id },
  });
}

// Clients match on the words "Name has already been taken".
const nameTaken = (name: string): HearthError =>
  new HearthError("name_taken", {
    message: `Name has already been taken: there is an app named "${name}"; choose another name.`,
    details: { name },
  });
