/** Which nats-server a host has, and what it can. Pure but for asking it. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** `2.9.10`. */
export type NatsVersion = string;

/** The first version that does it of itself. */
export const natsSince = {
  /** A place for answers is told to servers that connect later too (docs/rfd/0006). */
  tellsLateServers: [2, 9, 17],
  /** Has a setting that syncs each message to disk before it is acknowledged. */
  canSyncAlways: [2, 10, 0],
} as const satisfies Record<string, readonly [number, number, number]>;

const askLimitMs = 5_000;

/** Undefined when there is none, or one that does not say. */
export async function natsServerVersion(binary = "nats-server"): Promise<NatsVersion | undefined> {
  try {
    const { stdout } = await promisify(execFile)(binary, ["--version"], { timeout: askLimitMs });
    return /v(\d+\.\d+\.\d+)/.exec(stdout)?.[1];
  } catch {
    return undefined;
  }
}

/** A version that is not known is taken for an old one. */
export function natsCan(what: keyof typeof natsSince, version: NatsVersion | undefined): boolean {
  const numbers =
    /^(\d+)\.(\d+)\.(\d+)/
      .exec(version ?? "")
      ?.slice(1)
      .map(Number) ?? [];
  for (const [at, since] of natsSince[what].entries())
    if (numbers[at] !== since) return (numbers[at] ?? 0) > since;
  return true;
}
