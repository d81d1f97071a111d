/**
 * Makes this host a node of a region, with a token that an operator brought. The id and the keys are on disk before the
 * region hears of them, so that the same host may ask again when it did not get the answer; what it is answered is on
 * disk before anything is started.
 */
import { request } from "node:http";
import { join } from "node:path";
import { HearthError, type HearthErrorCode, type WireError } from "@hearth/errors";
import { hearthVersion, JoinAnswer, type JoinRequest, type JoinToken, parseJoinToken } from "@hearth/machine";
import Value from "typebox/value";
import { ensureHostKeys } from "./host-keys.ts";
import {
  findIdentity,
  makeDirectory,
  newNodeId,
  readIfThere,
  writeIdentity,
  writeWhole,
} from "./node-identity.ts";
import type { AgentSettings } from "./settings.ts";

export interface JoinWish {
  readonly token: string;
}

export interface Joined {
  readonly node_id: string;
  readonly region: string;
  readonly roles: readonly string[];
  readonly host_number: number;
  readonly address: string;
}

const askLimitMs = 15_000;
const maxAnswerBytes = 64 * 1024;

/**
 * @throws HearthError `already_joined`, `region_unreachable` where no API of the token answers, and what the region
 * refuses with: `join_token_invalid`, `join_token_used`, `join_token_expired`, `node_id_taken`, `node_version_too_old`,
 * `clock_wrong`
 */
export async function joinRegion(settings: AgentSettings, { token: text }: JoinWish): Promise<Joined> {
  const token = parseJoinToken(text.trim());
  const { dataDir } = settings;
  const before = findIdentity(dataDir);
  if (before !== undefined && before.joined === undefined) {
    throw new HearthError("already_joined", {
      message: `This host made a region of its own (node ${before.node_id}); remove ${dataDir} to have it join ${token.region}.`,
    });
  }
  if (before !== undefined && before.region !== token.region) {
    throw new HearthError("already_joined", {
      message: `This host belongs to the region ${before.region}; remove ${dataDir} to have it join ${token.region}.`,
    });
  }
  makeDirectory(dataDir, 0o711);
  const node_id = before?.node_id ?? pendingNodeId(dataDir);
  const keys = ensureHostKeys(dataDir);
  const body: JoinRequest = {
    secret: token.secret,
    node_id,
    node_key: keys.node,
    ...(token.roles.includes("api") ? { api_key: keys.api, api_port: settings.apiPort } : {}),
    ...(token.roles.includes("bus") ? { bus_port: settings.busPort, route_port: settings.routePort } : {}),
    seal_key: keys.seal,
    version: hearthVersion,
    now_ms: Date.now(),
    ...(settings.address === undefined ? {} : { address: settings.address }),
  };
  const answer = await askAny(token, body);
  const { region, prefix, host_number, roles, address, bus_servers, api_urls } = answer;
  writeIdentity(dataDir, {
    node_id,
    prefix,
    host_number,
    region,
    roles,
    address,
    joined: { bus_servers, api_urls },
  });
  return { node_id, region, roles, host_number, address };
}

/** Drawn once, so that a host that asks twice is one host to the region. */
function pendingNodeId(dataDir: string): string {
  const path = join(dataDir, "join-node-id");
  const known = readIfThere(path)?.trim();
  if (known !== undefined) return known;
  const drawn = newNodeId();
  writeWhole(path, `${drawn}\n`, 0o644);
  return drawn;
}

/** The first API that answers, whatever it says. */
async function askAny({ api_urls, region }: JoinToken, body: JoinRequest): Promise<JoinAnswer> {
  let cause: unknown;
  for (const url of api_urls) {
    try {
      return await ask(`${url}/v1/nodes/join`, body);
    } catch (error) {
      if (error instanceof HearthError && error.code !== "unavailable") throw error;
      cause = error;
    }
  }
  throw new HearthError("region_unreachable", {
    message: `No API of the region ${region} answers at ${api_urls.join(", ")}; check that it runs, and that this host reaches it.`,
    details: { api_urls: [...api_urls] },
    cause,
  });
}

function ask(url: string, body: JoinRequest): Promise<JoinAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<JoinAnswer>();
  const outgoing = request(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    agent: false,
    signal: AbortSignal.timeout(askLimitMs),
  });
  outgoing.once("error", reject).once("response", (answer) => {
    let text = "";
    answer
      .setEncoding("utf8")
      .on("data", (chunk: string) => {
        text += chunk;
        if (text.length > maxAnswerBytes) answer.destroy(new HearthError("payload_too_large"));
      })
      .once("error", reject)
      .once("end", () => {
        try {
          resolve(parseAnswer(answer.statusCode ?? 0, text));
        } catch (error) {
          reject(error);
        }
      });
  });
  outgoing.end(JSON.stringify(body));
  return promise;
}

function parseAnswer(status: number, text: string): JoinAnswer {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new HearthError("unavailable", { message: "What answers is no Hearth API.", cause });
  }
  if (status === 200 && Value.Check(JoinAnswer, value)) return value;
  const { code, message, details } = (value ?? {}) as { code?: HearthErrorCode } & Partial<WireError>;
  if (status >= 400 && code !== undefined) throw HearthError.fromWire({ code, message, details });
  throw new HearthError("unavailable", { message: "What answers is no Hearth API of this version." });
}
