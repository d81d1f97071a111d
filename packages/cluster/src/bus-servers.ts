/**
 * What only the agent of a bus host does with the servers of a cluster, through the account that is the servers' own
 * (operator-door.ts): look who is one, take one out for good, and have a server that goes hand over what it leads.
 *
 * A server that goes is not forgotten by itself: it counts for the majority until it is taken out. It is taken out by
 * the id that is computed from its name, as a leader that has started since the other went does not know the name.
 */
import { createHash, randomBytes } from "node:crypto";
import { connect } from "node:net";
import { HearthError } from "@hearth/errors";
import { type Bus, busError } from "./bus.ts";
import { type NatsCluster, routeUser } from "./nats-config.ts";
import { stateStream } from "./state-stream.ts";

/** The servers that decide together where the state lives. */
export interface ServerGroup {
  readonly leader: string;
  /** By `serverId`, the leader too. */
  readonly ids: readonly string[];
  /** Ids of those that do not have all of it now, as the leader sees it. */
  readonly behind: readonly string[];
}

interface PeerAnswer {
  readonly peer: string;
  readonly current: boolean;
  readonly offline?: boolean;
}

const askLimitMs = 2_000;
const stallMs = 300;
const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** As nats-server computes it from a name: `getHash` of its events.go. */
export function serverId(name: string): string {
  const hash = createHash("sha256").update(name).digest().subarray(0, 8);
  return [...hash].map((byte) => digits[byte % digits.length]).join("");
}

const doorMark = "-operator-";

/** Another one each time, as the servers may not have seen the end of one whose agent died. */
export const doorName = (server: string): string => `${server}${doorMark}${randomBytes(4).toString("hex")}`;

/** As the leader has it; undefined while there is none. @throws HearthError `unavailable` */
export async function serverGroup(operator: Bus): Promise<ServerGroup | undefined> {
  const answer = await ask(operator, "$SYS.REQ.SERVER.PING.JSZ", { leader_only: true });
  const { meta_cluster: group } = (answer as { data?: { meta_cluster?: MetaAnswer } }).data ?? {};
  if (group?.leader === undefined) return undefined;
  const peers = (group.replicas ?? []).filter(({ peer }) => peer !== serverId(group.leader ?? ""));
  return {
    leader: group.leader,
    ids: [serverId(group.leader), ...peers.map(({ peer }) => peer)],
    behind: peers.filter(({ current, offline }) => !current || offline === true).map(({ peer }) => peer),
  };
}

interface MetaAnswer {
  readonly leader?: string;
  readonly replicas?: readonly PeerAnswer[];
}

/** With it goes the copy of the state that it had; another server takes one in its place, when there is one. */
export async function removeServer(operator: Bus, id: string): Promise<void> {
  const answer = await ask(operator, "$JS.API.SERVER.REMOVE", { peer: "", peer_id: id });
  const { success, error } = answer as { success?: boolean; error?: { description?: string } };
  if (success !== true)
    throw new HearthError("unavailable", { message: `The bus keeps the server: ${error?.description}.` });
}

/**
 * By the name of each server of the bus: the names of those that it has a connection with, or the id of one that says no
 * name. The doors of operators are left out: they come by themselves, with the secret, so they are not greeted by anybody.
 */
export async function serverConnections(operator: Bus): Promise<ReadonlyMap<string, readonly string[]>> {
  const answers: RoutesAnswer[] = [];
  try {
    const options = { strategy: "stall", stall: stallMs, maxWait: askLimitMs } as const;
    const heard = await operator.connection.requestMany("$SYS.REQ.SERVER.PING.ROUTEZ", "", options);
    for await (const answer of heard) answers.push(answer.json<RoutesAnswer>());
  } catch (error) {
    throw busError(error);
  }
  const names = new Map(answers.map(({ server }) => [server.id, server.name]));
  const isDoor = (name: string): boolean => name.includes(doorMark);
  return new Map(
    answers
      .filter(({ server }) => !isDoor(server.name))
      .map(({ server, data }) => {
        const remotes = (data?.routes ?? []).map(({ remote_id, did_solicit }) => ({
          ...{ name: names.get(remote_id) ?? remote_id, isGreeted: did_solicit === true },
        }));
        const others = remotes.filter(({ name, isGreeted }) => isGreeted || !isDoor(name));
        return [server.name, others.map(({ name }) => name)];
      }),
  );
}

interface RoutesAnswer {
  readonly server: { readonly id: string; readonly name: string };
  readonly data?: {
    readonly routes?: readonly { readonly remote_id: string; readonly did_solicit?: boolean }[];
  };
}

/** Has others lead what the server of that name leads, so that its end is no reason for an election. */
export async function handOver(keeper: Bus, operator: Bus, name: string): Promise<void> {
  const group = await serverGroup(operator);
  if (group?.leader === name) await ask(operator, "$JS.API.META.LEADER.STEPDOWN", undefined);
  const { cluster } = (await ask(keeper, `$JS.API.STREAM.INFO.${stateStream}`, undefined)) as {
    readonly cluster?: { readonly leader?: string };
  };
  if (cluster?.leader === name) await ask(keeper, `$JS.API.STREAM.LEADER.STEPDOWN.${stateStream}`, undefined);
}

/**
 * Whether the server at `host:port` lets in another one with this secret; undefined when it does not say. It is told
 * nothing else, so it does not take this for a server.
 */
export function takesSecret(
  { name, secret }: Pick<NatsCluster, "name" | "secret">,
  route: string,
): Promise<boolean | undefined> {
  const { hostname, port } = new URL(`tcp://${route}`);
  const hello = { verbose: false, pedantic: false, user: routeUser, pass: secret, cluster: name };
  return new Promise((resolve) => {
    const socket = connect({ host: hostname.replace(/^\[|\]$/g, ""), port: Number(port) });
    let heard = "";
    const done = (answer: boolean | undefined): void => {
      socket.destroy();
      resolve(answer);
    };
    socket
      .setEncoding("latin1")
      .setTimeout(askLimitMs, () => done(undefined))
      .once("connect", () => socket.write(`CONNECT ${JSON.stringify(hello)}\r\nPING\r\n`))
      .once("error", () => done(undefined))
      .once("close", () => done(undefined))
      .on("data", (text: string) => {
        heard = (heard + text).slice(-maxAnswerBytes);
        if (heard.includes("-ERR 'Authorization Violation'")) done(false);
        else if (/(^|\n)PONG\r\n/.test(heard)) done(true);
      });
  });
}

const maxAnswerBytes = 64 * 1024;

async function ask(bus: Bus, subject: string, body: object | undefined): Promise<unknown> {
  try {
    const text = body === undefined ? "" : JSON.stringify(body);
    return (await bus.connection.request(subject, text, { timeout: askLimitMs })).json();
  } catch (error) {
    throw busError(error);
  }
}
