/**
 * Private networks of an organisation, and pairs of them whose machines may talk. The default network, and one that
 * an app is created in, are made when first needed.
 *
 * A network is never deleted under an app or a pair. Whoever deletes it marks it first, then looks for users; whoever
 * comes to use it writes the use first, then looks for the mark. Both look at a replica that has their own write, and
 * so all that the stream has before it: one of the two writes is the earlier one, and the later writer gives way.
 */
import { HearthError } from "@hearth/errors";
import { factKeys, factPrefixes, type NetworkFact, type NetworkPairFact } from "@hearth/machine";
import type { ApiContext } from "../api-context.ts";
import type { Revised, StoredApp } from "../state/cluster-view.ts";
import { writeFact } from "../state/write-fact.ts";

const elsewhereLimitMs = 5_000;
export const defaultNetwork = "default";

export interface NetworkRef {
  readonly orgSlug: string;
  readonly name: string;
}

export function listNetworks({ view }: ApiContext, orgSlug: string): { name: string; fact: NetworkFact }[] {
  const prefix = factKeys.network(orgSlug, "");
  return view.replica
    .list(prefix)
    .map(({ key, value }) => ({ name: key.slice(prefix.length), fact: value as NetworkFact }));
}

/** @throws HearthError `network_not_found` */
export function findNetwork(context: ApiContext, ref: NetworkRef): Revised<NetworkFact> {
  const found = lookUp(context, ref);
  if (found !== undefined) return found;
  throw new HearthError("network_not_found", {
    message: `The organisation ${ref.orgSlug} has no network "${ref.name}"; list its networks.`,
    details: { org: ref.orgSlug, network: ref.name },
  });
}

/** @throws HearthError `name_taken` */
export async function createNetwork(context: ApiContext, ref: NetworkRef): Promise<NetworkFact> {
  const taken = (): HearthError =>
    new HearthError("name_taken", {
      message: `Name has already been taken: there is a network named "${ref.name}"; choose another name.`,
      details: { network: ref.name },
    });
  if (lookUp(context, ref) !== undefined) throw taken();
  try {
    return await draw(context, ref);
  } catch (thrown) {
    throw HearthError.from(thrown).code === "conflict" ? taken() : thrown;
  }
}

/** The number of a network is drawn once, by whoever needs it first. @throws HearthError `conflict` while it goes */
export async function ensureNetwork(context: ApiContext, ref: NetworkRef): Promise<NetworkFact> {
  const known = lookUp(context, ref)?.value;
  if (known?.deleting) throw networkGoes(ref);
  if (known !== undefined) return known;
  try {
    return await draw(context, ref);
  } catch (thrown) {
    if (HearthError.from(thrown).code !== "conflict") throw thrown;
    return await drawnElsewhere(context, ref);
  }
}

/** Whether what has just been written may use the network. */
export function isStill(context: ApiContext, ref: NetworkRef, network: number): boolean {
  const seen = lookUp(context, ref)?.value;
  return seen?.network === network && seen.deleting !== true;
}

/** @throws HearthError `network_in_use`, `network_not_found`, `invalid_argument` for the default one */
export async function deleteNetwork(context: ApiContext, ref: NetworkRef): Promise<void> {
  const { value, revision } = findNetwork(context, ref);
  if (ref.name === defaultNetwork)
    throw new HearthError("invalid_argument", {
      message: "Every organisation has its default network, so it cannot be deleted.",
      details: { field: "network" },
    });
  refuseUsed(context, ref);
  const key = factKeys.network(ref.orgSlug, ref.name);
  const marked = await writeFact(context, {
    ...{ key, value: { ...value, deleting: true }, expectedRevision: revision },
  });
  try {
    refuseUsed(context, ref);
  } catch (used) {
    const { deleting: _, ...kept } = value;
    await writeFact(context, { key, value: kept, expectedRevision: marked });
    throw used;
  }
  await writeFact(context, { key, value: undefined, expectedRevision: marked });
}

export const appsOf = ({ view }: ApiContext, ref: NetworkRef): StoredApp[] =>
  view.apps().filter((app) => app.org_slug === ref.orgSlug && app.network_name === ref.name);

/** Names of the networks that it is paired with. */
export function pairedWith({ view }: ApiContext, { orgSlug, name }: NetworkRef): string[] {
  return view.replica
    .list(`${factPrefixes.networkPair}${orgSlug}.`)
    .map(({ value }) => (value as NetworkPairFact).names)
    .filter((names) => names.includes(name))
    .map(([one, other]) => (one === name ? other : one))
    .sort();
}

/** Repeatable. @throws HearthError `network_not_found`, `conflict` while one of them goes */
export async function pairNetworks(context: ApiContext, one: NetworkRef, other: string): Promise<void> {
  const { orgSlug } = one;
  if (one.name === other)
    throw new HearthError("invalid_argument", {
      message: "A network is not paired with itself: its own machines talk anyway. Name another one.",
      details: { field: "other" },
    });
  const refs = [one, { orgSlug, name: other }].sort((a, b) => (a.name < b.name ? -1 : 1)) as [
    NetworkRef,
    NetworkRef,
  ];
  const networks = refs.map((ref) => findNetwork(context, ref).value.network) as [number, number];
  const value: NetworkPairFact = {
    names: [refs[0].name, refs[1].name],
    networks,
    created_at_ms: context.nowMs(),
  };
  const key = factKeys.networkPair(orgSlug, one.name, other);
  if (context.view.replica.get(key) !== undefined) return;
  const revision = await writeFact(context, { key, value, expectedRevision: 0 });
  const gone = refs.find((ref, index) => !isStill(context, ref, networks[index] ?? 0));
  if (gone === undefined) return;
  await writeFact(context, { key, value: undefined, expectedRevision: revision });
  throw networkGoes(gone);
}

/** Repeatable. */
export async function unpairNetworks(context: ApiContext, one: NetworkRef, other: string): Promise<void> {
  const key = factKeys.networkPair(one.orgSlug, one.name, other);
  if (context.view.replica.get(key) !== undefined) await writeFact(context, { key, value: undefined });
}

export const networkGoes = ({ orgSlug, name }: NetworkRef): HearthError =>
  new HearthError("conflict", {
    message: `The network "${name}" is being deleted; try again in a moment, or name another one.`,
    details: { org: orgSlug, network: name },
  });

const lookUp = ({ view }: ApiContext, { orgSlug, name }: NetworkRef): Revised<NetworkFact> | undefined =>
  view.replica.get(factKeys.network(orgSlug, name)) as Revised<NetworkFact> | undefined;

function refuseUsed(context: ApiContext, ref: NetworkRef): void {
  const apps = appsOf(context, ref).map(({ name }) => name);
  const paired = pairedWith(context, ref);
  if (apps.length + paired.length === 0) return;
  throw new HearthError("network_in_use", {
    message: `The network "${ref.name}" is used by ${apps.length} apps and ${paired.length} pairs; delete the apps and end the pairs first.`,
    details: { network: ref.name, app_count: apps.length, paired_with: paired },
  });
}

async function draw(context: ApiContext, { orgSlug, name }: NetworkRef): Promise<NetworkFact> {
  const value = { network: drawNumber(context), created_at_ms: context.nowMs() };
  await writeFact(context, { key: factKeys.network(orgSlug, name), value, expectedRevision: 0 });
  return value;
}

function drawNumber({ view, randomBytes }: ApiContext): number {
  const networks = view.replica.list(factPrefixes.network).map(({ value }) => value as NetworkFact);
  // An app whose creator ended between its two looks may have outlived its network.
  const taken = new Set([...networks, ...view.apps()].map(({ network }) => network));
  for (;;) {
    const number = Buffer.from(randomBytes(4)).readUInt32BE();
    if (number > 0 && !taken.has(number)) return number;
  }
}

async function drawnElsewhere(context: ApiContext, ref: NetworkRef): Promise<NetworkFact> {
  const deadline = AbortSignal.timeout(elsewhereLimitMs);
  return new Promise((resolve, reject) => {
    const done = (): void => {
      const seen = lookUp(context, ref)?.value;
      if (seen === undefined && !deadline.aborted) return;
      watching[Symbol.dispose]();
      deadline.removeEventListener("abort", done);
      if (seen === undefined) reject(new HearthError("unavailable"));
      else resolve(seen);
    };
    const watching = context.view.replica.watch(factKeys.network(ref.orgSlug, ref.name), done);
    deadline.addEventListener("abort", done);
    done();
  });
}
