/**
 * Apps as facts. An app is acknowledged when the stream has it and this replica has it on disk. Apps of one
 * organisation share a private network unless they name another one.
 */
import { HearthError } from "@hearth/errors";
import { factKeys } from "@hearth/machine";
import type { ApiContext } from "./api-context.ts";
import type { StoredApp } from "./cluster-view.ts";
import { untilMachine } from "./machine-access.ts";
import { writeFact } from "./write-fact.ts";

const elsewhereLimitMs = 5_000;
const destroyLimitMs = 30_000;

export interface NewApp {
  readonly name: string;
  readonly orgSlug: string;
  readonly network: string;
}

/** @throws HearthError `name_taken` */
export async function createApp(context: ApiContext, wanted: NewApp): Promise<StoredApp> {
  const { view, nowMs, randomBytes } = context;
  if (view.findApp(wanted.name) !== undefined) throw nameTaken(wanted.name);
  const fact: StoredApp = {
    id: Buffer.from(randomBytes(8)).toString("hex"),
    name: wanted.name,
    org_slug: wanted.orgSlug,
    network: await networkOf(context, wanted.orgSlug, wanted.network),
    network_name: wanted.network,
    created_at_ms: nowMs(),
  };
  const key = factKeys.app(wanted.name);
  await writeFact(context, { key, value: fact, expectedRevision: 0 }).catch((thrown: unknown) => {
    throw HearthError.from(thrown).code === "conflict" ? nameTaken(wanted.name) : thrown;
  });
  return fact;
}

/** @throws HearthError `conflict` while machines exist, unless `force`, which destroys them */
export async function deleteApp(context: ApiContext, name: string, force: boolean): Promise<void> {
  const { view } = context;
  view.app(name);
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

/** The number of a network is drawn once, by whoever needs it first. */
async function networkOf(context: ApiContext, orgSlug: string, name: string): Promise<number> {
  const { replica } = context.view;
  const key = `network.${orgSlug}.${name}`;
  const known = replica.get(key)?.value as { network: number } | undefined;
  if (known !== undefined) return known.network;
  const network = drawNumber(context);
  try {
    const value = { network, created_at_ms: context.nowMs() };
    await writeFact(context, { key, value, expectedRevision: 0 });
    return network;
  } catch (thrown) {
    if (HearthError.from(thrown).code !== "conflict") throw thrown;
    return await drawnElsewhere(context, key);
  }
}

function drawNumber({ view, randomBytes }: ApiContext): number {
  const taken = new Set(
    view.replica.list("network.").map(({ value }) => (value as { network: number }).network),
  );
  for (;;) {
    const number = Buffer.from(randomBytes(4)).readUInt32BE();
    if (number > 0 && !taken.has(number)) return number;
  }
}

async function drawnElsewhere({ view }: ApiContext, key: string): Promise<number> {
  const deadline = AbortSignal.timeout(elsewhereLimitMs);
  const seen = (): number | undefined =>
    (view.replica.get(key)?.value as { network: number } | undefined)?.network;
  return new Promise((resolve, reject) => {
    const done = (): void => {
      const network = seen();
      if (network === undefined && !deadline.aborted) return;
      watching[Symbol.dispose]();
      deadline.removeEventListener("abort", done);
      if (network === undefined) reject(new HearthError("unavailable"));
      else resolve(network);
    };
    const watching = view.replica.watch(key, done);
    deadline.addEventListener("abort", done);
    done();
  });
}

// Clients match on the words "Name has already been taken".
const nameTaken = (name: string): HearthError =>
  new HearthError("name_taken", {
    message: `Name has already been taken: there is an app named "${name}"; choose another name.`,
    details: { name },
  });
