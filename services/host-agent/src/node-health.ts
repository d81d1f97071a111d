/**
 * Whether the parts of a node do their work, asked from outside as their users ask: a process that runs and
 * answers nobody is not healthy.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { json } from "node:stream/consumers";
import type { Bus, NodeConfig } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import type { NodeRole } from "@hearth/machine";
import { checkDns } from "./dns-health.ts";
import { tokenPath } from "./node-identity.ts";

export interface HealthDeps {
  readonly config: NodeConfig;
  readonly roles: readonly NodeRole[];
  readonly bus: () => Bus | undefined;
  readonly limitMs?: number;
}

/** Sentences about what does not answer, by service. */
export type Problems = Readonly<Record<string, string>>;

/** Another process has its ports: told, and no reason to start no machines here. */
export const frontDoor = "front-door";

export const apiUrl = ({ host, port }: NodeConfig["api"]): string =>
  `http://${host.includes(":") ? `[${host}]` : host}:${port}`;

/** Asks all parts at once. Never throws. */
export async function checkNode(deps: HealthDeps): Promise<Problems> {
  const { config, roles, limitMs = 2_000 } = deps;
  const bus = deps.bus();
  if (bus === undefined) return { bus: "The bus does not answer." };
  const ask = (service: string, command: string, payload: object) => async () => {
    await bus.request(config.node_id, service, command, payload, { timeoutMs: limitMs });
  };
  const checks: Record<string, () => Promise<void>> = {
    ...(roles.includes("worker")
      ? {
          images: ask("images", "list", {}),
          dns: () => checkDns(config, limitMs),
          worker: ask("worker", "list", { limit: 1 }),
          ingress: ask("ingress", "health", {}),
          [frontDoor]: () => checkFrontDoor(bus, config, limitMs),
        }
      : {}),
    ...(roles.includes("api") ? { regional: () => checkApi(config, limitMs) } : {}),
  };
  const answers = await Promise.all(
    Object.entries(checks).map(async ([name, check]) => {
      try {
        await check();
        return undefined;
      } catch (error) {
        return [name, `${name}: ${HearthError.from(error).message}`] as const;
      }
    }),
  );
  return Object.fromEntries(answers.filter((answer) => answer !== undefined));
}

/** The front door has the ports that it is to have. */
async function checkFrontDoor(bus: Bus, { node_id }: NodeConfig, timeoutMs: number): Promise<void> {
  const answer = (await bus.request(node_id, "ingress", "health", {}, { timeoutMs })) as {
    readonly problems?: readonly string[];
  };
  const [problem] = answer.problems ?? [];
  if (problem !== undefined) throw new HearthError("unavailable", { message: problem });
}

interface SeenNode {
  readonly node_id?: string;
  /** Null while this life of the API has not heard it. */
  readonly age_ms?: number | null;
  readonly problems?: readonly string[];
}

/** The API answers, knows this node, and has heard of no problem of it: then it can place a machine. */
async function checkApi(config: NodeConfig, limitMs: number): Promise<void> {
  const token = readFileSync(tokenPath(config.data_dir), "utf8").trim();
  const get = async (path: string): Promise<unknown> => {
    const { status, body } = await getJson(`${apiUrl(config.api)}${path}`, token, limitMs).catch((cause) => {
      throw new HearthError("unavailable", { message: "The API does not answer.", cause });
    });
    if (status !== 200) {
      throw new HearthError("unavailable", { message: `The API answers ${path} with ${status}.` });
    }
    return body;
  };
  const { replica_age_ms: ageMs } = (await get("/v1/health")) as { replica_age_ms?: number | null };
  if (ageMs === null)
    throw new HearthError("unavailable", {
      message: "The API has not compared what it knows with the bus yet.",
    });
  const nodes = (await get("/v1/nodes")) as readonly SeenNode[];
  const node = Array.isArray(nodes) ? nodes.find(({ node_id }) => node_id === config.node_id) : undefined;
  if (node === undefined || node.age_ms === null) {
    throw new HearthError("unavailable", { message: "The API has not heard of this node yet." });
  }
  const [problem] = node.problems ?? [];
  if (problem !== undefined) throw new HearthError("unavailable", { message: problem });
}

/** Not by `fetch`, which costs a process that uses it once in five seconds ten megabytes. */
async function getJson(url: string, token: string, limitMs: number) {
  const signal = AbortSignal.timeout(limitMs);
  const asked = request(url, { headers: { authorization: `Bearer ${token}` }, agent: false, signal }).end();
  const [answer] = (await once(asked, "response", { signal })) as [IncomingMessage];
  return { status: answer.statusCode, body: await json(answer) };
}
