/**
 * Lets a host into the region. Each step is a compare-and-set that the same host may repeat, because the answer may be
 * lost on its way: the token is marked with the node that uses it, then a number is taken for the host, then its keys
 * are written. From the last step on the servers of the bus know the host.
 */
import { createHash } from "node:crypto";
import { isIP } from "node:net";
import { HearthError } from "@hearth/errors";
import {
  type BusFact,
  compareVersions,
  factKeys,
  factPrefixes,
  type HostNumberFact,
  hearthVersion,
  type JoinAnswer,
  type JoinFact,
  type JoinRequest,
  type NodeKeyFact,
  type NodeRole,
} from "@hearth/machine";
import { canonicalIp, nextHostNumber } from "@hearth/network";
import type { ApiContext } from "../api-context.ts";

const writeLimitMs = 5_000;
const clockLimitMs = 5_000;
/** So long a host may send the same again whose keys are not written yet. */
const repeatLimitMs = 600_000;
const defaultPorts = { api: 4280, bus: 4222, route: 6222 } as const;

export const secretHash = (secret: string): string => createHash("sha256").update(secret).digest("hex");

export interface Region {
  readonly name: string;
  readonly prefix: string;
}

/** @throws HearthError with a code for each reason of a refusal */
export async function joinNode(
  context: ApiContext,
  request: JoinRequest,
  callerAddress: string,
): Promise<JoinAnswer> {
  const key = factKeys.join(secretHash(request.secret));
  const { roles } = judgeToken(context, key, request.node_id);
  judgeHost(context, request);
  judgeKeys(request, roles);
  const address = hostAddress(request.address ?? callerAddress);
  await useToken(context, key, request.node_id);
  const known = keyOf(context, request.node_id);
  const hostNumber = known?.host_number ?? (await takeNumber(context, request.node_id));
  const fact = keyFact(request, { roles, hostNumber, address, nowMs: context.nowMs(), known });
  await write(context, factKeys.nodeKey(request.node_id), fact);
  context.logger.info({ node_id: request.node_id, roles, host_number: hostNumber }, "a node has joined");
  return {
    region: context.region.name,
    prefix: context.region.prefix,
    host_number: hostNumber,
    roles: [...roles],
    address: fact.address,
    bus_servers: busServers(context),
    api_urls: apiUrls(context),
  };
}

export const nodeKeys = ({ view }: Pick<ApiContext, "view">): NodeKeyFact[] =>
  view.replica.list(factPrefixes.nodeKey).map(({ value }) => value as NodeKeyFact);

export const apiUrls = (context: Pick<ApiContext, "view">): string[] =>
  nodeKeys(context)
    .map(({ api_url }) => api_url)
    .filter((url) => url !== undefined);

function busServers(context: ApiContext): string[] {
  const fact = context.view.replica.get(factKeys.bus())?.value as BusFact | undefined;
  const hosts = nodeKeys(context).filter(({ bus }) => bus !== undefined);
  const first = hosts.toSorted((a, b) => a.host_number - b.host_number).slice(0, 1);
  const members =
    fact?.state === "formed" ? hosts.filter(({ node_id }) => fact.members.includes(node_id)) : first;
  return members.map(({ bus }) => bus?.client_url ?? "");
}

const keyOf = ({ view }: ApiContext, nodeId: string): NodeKeyFact | undefined =>
  view.replica.get(factKeys.nodeKey(nodeId))?.value as NodeKeyFact | undefined;

function judgeToken(context: ApiContext, key: string, nodeId: string): JoinFact {
  const { view, nowMs } = context;
  const fact = view.replica.get(key)?.value as JoinFact | undefined;
  if (fact === undefined) throw new HearthError("join_token_invalid");
  if (fact.used_by !== undefined) {
    // A node that was removed must not come back with what let it in once.
    const isRepeat = keyOf(context, nodeId) !== undefined || nowMs() - (fact.used_at_ms ?? 0) < repeatLimitMs;
    if (fact.used_by !== nodeId || !isRepeat) throw new HearthError("join_token_used");
  } else if (fact.expires_at_ms <= nowMs()) {
    throw new HearthError("join_token_expired", { details: { expired_at_ms: fact.expires_at_ms } });
  }
  return fact;
}

function judgeHost(context: ApiContext, request: JoinRequest): void {
  if (context.view.region.isRemoved(request.node_id))
    throw new HearthError("node_id_taken", {
      message: `Node ${request.node_id} was removed from this region for good. Run \`hearth down\` on its host and remove the data directory: it gets another identity.`,
      details: { node_id: request.node_id },
    });
  const versions = nodeKeys(context).map(({ version }) => version);
  const newest = [hearthVersion, ...versions].reduce((a, b) => (compareVersions(a, b) < 0 ? b : a));
  if (compareVersions(request.version, newest) < 0) {
    throw new HearthError("node_version_too_old", {
      message: `This host runs Hearth ${request.version}, and its region has ${newest}; install that and join again.`,
      details: { version: request.version, region_version: newest },
    });
  }
  const aheadMs = request.now_ms - context.nowMs();
  if (Math.abs(aheadMs) > clockLimitMs) {
    const seconds = Math.round(Math.abs(aheadMs) / 1000);
    throw new HearthError("clock_wrong", {
      message: `The clock of this host is ${seconds} s ${aheadMs > 0 ? "ahead of" : "behind"} its region's; set the clock (NTP) and join again.`,
      details: { ahead_ms: aheadMs, limit_ms: clockLimitMs },
    });
  }
  const known = keyOf(context, request.node_id);
  const isSame = known?.node_key === request.node_key && known.api_key === request.api_key;
  const isHeard = context.view.node(request.node_id) !== undefined;
  if ((known !== undefined && !isSame) || (known === undefined && isHeard && !isReturning(context, request)))
    throw new HearthError("node_id_taken", { details: { node_id: request.node_id } });
}

function judgeKeys({ api_key, seal_key }: JoinRequest, roles: readonly NodeRole[]): void {
  const lacksApi = roles.includes("api") && api_key === undefined;
  if (!lacksApi && (!roles.includes("bus") || seal_key !== undefined)) return;
  throw new HearthError("invalid_argument", {
    message: "The token lets this host be more than it has sent keys for; join with this region's version.",
    details: { field: lacksApi ? "api_key" : "seal_key" },
  });
}

/** A node that was removed has its number still, and may come back under its id. */
const isReturning = (context: ApiContext, { node_id }: JoinRequest): boolean =>
  numberOf(context, node_id) !== undefined;

/** Marks the token as this node's. Of two hosts with one token one wins. */
async function useToken(context: ApiContext, key: string, nodeId: string): Promise<void> {
  const found = context.view.replica.get(key);
  const fact = found?.value as JoinFact;
  if (found === undefined || fact.used_by === nodeId) return;
  const used: JoinFact = { ...fact, used_by: nodeId, used_at_ms: context.nowMs() };
  try {
    const revision = await context.facts().compareAndSet(key, used, found.revision);
    await context.view.replica.waitForRevision(key, revision, { timeoutMs: writeLimitMs });
  } catch (thrown) {
    if (HearthError.from(thrown).code === "conflict") throw new HearthError("join_token_used");
    throw thrown;
  }
}

function numberOf({ view }: ApiContext, nodeId: string): number | undefined {
  const mine = view.replica
    .list(factPrefixes.hostNumber)
    .find(({ value }) => (value as HostNumberFact).node_id === nodeId);
  return mine === undefined ? undefined : Number(mine.key.slice(factPrefixes.hostNumber.length));
}

/** The smallest number that nobody ever had. A removed host's is not given away: its addresses may be in use. */
async function takeNumber(context: ApiContext, nodeId: string): Promise<number> {
  const { replica } = context.view;
  const known = numberOf(context, nodeId);
  if (known !== undefined) return known;
  const taken = new Set([
    ...replica
      .list(factPrefixes.hostNumber)
      .map(({ key }) => Number(key.slice(factPrefixes.hostNumber.length))),
    ...nodeKeys(context).map(({ host_number }) => host_number),
  ]);
  for (;;) {
    const number = freeNumber(taken);
    try {
      const fact: HostNumberFact = { node_id: nodeId };
      await context.facts().compareAndSet(factKeys.hostNumber(number), fact, 0);
      return number;
    } catch (thrown) {
      if (HearthError.from(thrown).code !== "conflict") throw thrown;
      taken.add(number);
    }
  }
}

function freeNumber(taken: ReadonlySet<number>): number {
  try {
    return nextHostNumber(taken);
  } catch (cause) {
    throw new HearthError("network_exhausted", {
      message: "The region has no number left for another host.",
      cause,
    });
  }
}

interface Granted {
  readonly roles: readonly NodeRole[];
  readonly hostNumber: number;
  readonly address: string;
  readonly nowMs: number;
  readonly known: NodeKeyFact | undefined;
}

function keyFact(request: JoinRequest, granted: Granted): NodeKeyFact {
  const { roles, hostNumber, address, nowMs, known } = granted;
  const { api_key, seal_key } = request;
  const at = (port: number): string => (isIP(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`);
  const isApi = roles.includes("api");
  const isBus = roles.includes("bus");
  return {
    node_id: request.node_id,
    host_number: hostNumber,
    roles,
    node_key: request.node_key,
    ...(isApi && api_key !== undefined
      ? { api_key, api_url: `http://${at(request.api_port ?? defaultPorts.api)}` }
      : {}),
    ...(seal_key === undefined ? {} : { seal_key }),
    ...(isBus && seal_key !== undefined
      ? {
          bus: {
            client_url: `nats://${at(request.bus_port ?? defaultPorts.bus)}`,
            route_url: at(request.route_port ?? defaultPorts.route),
          },
        }
      : {}),
    address,
    version: request.version,
    joined_at_ms: known?.joined_at_ms ?? nowMs,
  };
}

/** @throws HearthError `invalid_argument` for what other hosts cannot reach */
export function hostAddress(text: string): string {
  const address = canonicalIp(text);
  const isAny = address === "0.0.0.0" || address === "::";
  if (address !== undefined && !isAny && !/^(127\.|::1$|fe80:)/.test(address)) return address;
  throw new HearthError("invalid_argument", {
    message: `Other hosts cannot reach ${JSON.stringify(text)}; name an address of this host with --address.`,
    details: { field: "address" },
  });
}

async function write(context: ApiContext, key: string, value: unknown): Promise<void> {
  const revision = await context.facts().publish(key, value);
  await context.view.replica.waitForRevision(key, revision, { timeoutMs: writeLimitMs });
}
