/**
 * What the servers of the bus know each other by: on the disks of bus hosts, and sealed for each of them on its way
 * through cluster state. A secret has a number, so that an older one never takes the place of a newer one.
 */
import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { seal, unseal } from "@hearth/cluster";
import type { BusFact, BusOffer, NodeKeyFact } from "@hearth/machine";
import { type HostKeys, keyPaths } from "./host-keys.ts";
import { readIfThere, writeWhole } from "./node-identity.ts";

export interface RouteSecret {
  readonly text: string;
  readonly number: number;
}

export interface SecretHolder {
  readonly dataDir: string;
  readonly keys: Pick<HostKeys, "seal">;
}

type Sealed = Pick<BusOffer, "members" | "secrets" | "sealed_by" | "secret_number">;

export const newRouteSecret = (number: number): RouteSecret => ({
  ...{ number, text: randomBytes(32).toString("hex") },
});

export const readRouteSecret = (dataDir: string): RouteSecret | undefined =>
  parse(readIfThere(keyPaths(dataDir).route));

/** The one that this host was offered and that is not in use yet. */
export const readNextSecret = (dataDir: string): RouteSecret | undefined =>
  parse(readIfThere(keyPaths(dataDir).nextRoute));

/** From now on. */
export function keepRouteSecret(dataDir: string, secret: RouteSecret): void {
  write(keyPaths(dataDir).route, secret);
  const next = readNextSecret(dataDir);
  if (next !== undefined && next.number <= secret.number)
    rmSync(keyPaths(dataDir).nextRoute, { force: true });
}

export const keepNextSecret = (dataDir: string, secret: RouteSecret): void =>
  write(keyPaths(dataDir).nextRoute, secret);

export function ensureRouteSecret(dataDir: string): RouteSecret {
  const known = readRouteSecret(dataDir);
  if (known !== undefined) return known;
  const secret = newRouteSecret(1);
  keepRouteSecret(dataDir, secret);
  return secret;
}

/** For each member, and nobody else. */
export function sealFor(
  { dataDir, keys }: SecretHolder,
  secret: RouteSecret,
  members: readonly NodeKeyFact[],
): Sealed {
  const sealed = members.flatMap(({ node_id, seal_key }) =>
    seal_key === undefined ? [] : [[node_id, seal(keyPaths(dataDir).seal, secret.text, seal_key)] as const],
  );
  return {
    members: members.map(({ node_id }) => node_id),
    secrets: Object.fromEntries(sealed),
    sealed_by: keys.seal,
    secret_number: secret.number,
  };
}

/** Undefined when there is none for this host. */
export function unsealSecret(
  dataDir: string,
  { secrets, sealed_by, secret_number = 1 }: Pick<BusFact, "secrets" | "sealed_by" | "secret_number">,
  nodeId: string,
): RouteSecret | undefined {
  const sealed = secrets[nodeId];
  const text = sealed === undefined ? undefined : unseal(keyPaths(dataDir).seal, sealed, sealed_by);
  return text === undefined ? undefined : { text, number: secret_number };
}

function parse(file: string | undefined): RouteSecret | undefined {
  const [text = "", number = "1"] = file?.trim().split("\n") ?? [];
  return text === "" ? undefined : { text, number: Number(number) };
}

const write = (path: string, { text, number }: RouteSecret): void =>
  writeWhole(path, `${text}\n${number}\n`, 0o600);
