/**
 * The number of a fleet, of which its name, its directory and its addresses are made: two fleets on one machine never
 * meet. The directory is the claim, as making it either succeeds or says that somebody has the number; it is free
 * again when nobody holds the lock in it. What a fleet leaves when even its switch was killed, or the machine was
 * restarted, is swept when the next one starts.
 */
import { mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HearthError } from "@hearth/errors";
import { must, run } from "./run-command.ts";

export interface FleetClaim {
  /** Such as `hf07`: begins the names of all that the fleet has on this machine. */
  readonly name: string;
  /** Absolute and short, as sockets live below it. */
  readonly directory: string;
  /** Held, shared, while the fleet lives. */
  readonly lockFile: string;
  readonly hostsLockFile: string;
  /** A /24; this machine is its address 254. */
  readonly network: { readonly prefix: string; readonly outside: string };
}

const numbers = 256;
/** Between the making of a directory and its lock. */
const graceMs = 60_000;
const namePattern = /^hf[0-9a-f]{2}$/;

/** @throws HearthError `conflict` when every number is taken */
export async function claimFleet(random: () => number = Math.random): Promise<FleetClaim> {
  await sweepFleets();
  const taken = await takenNetworks();
  const first = Math.floor(random() * numbers);
  for (let step = 0; step < numbers; step += 1) {
    const number = (first + step) % numbers;
    const name = `hf${number.toString(16).padStart(2, "0")}`;
    const prefix = `10.98.${number}.`;
    if (taken.some((network) => network.startsWith(prefix) || network === "10.98.0.0/16")) continue;
    const directory = join(tmpdir(), name);
    if (!tryMakeDirectory(directory)) continue;
    const lockFile = join(directory, "fleet.lock");
    const hostsLockFile = join(directory, "hosts.lock");
    for (const path of [lockFile, hostsLockFile]) writeFileSync(path, "");
    return { name, directory, lockFile, hostsLockFile, network: { prefix, outside: `${prefix}254` } };
  }
  throw new HearthError("conflict", { message: "There is no free network in 10.98.0.0/16 for a fleet." });
}

/** Removes the directories of fleets that are gone; answers their names. */
export async function sweepFleets(nowMs = Date.now()): Promise<string[]> {
  const removed: string[] = [];
  for (const name of readdirSync(tmpdir()).filter((entry) => namePattern.test(entry))) {
    const directory = join(tmpdir(), name);
    const ageMs = nowMs - (statSync(directory, { throwIfNoEntry: false })?.mtimeMs ?? nowMs);
    if (ageMs < graceMs) continue;
    const lock = ["flock", "--exclusive", "--nonblock", join(directory, "fleet.lock")];
    const { code } = await run([...lock, "rm", "-rf", directory]);
    if (code === 0) removed.push(name);
  }
  return removed;
}

/** What this machine has a route to. */
async function takenNetworks(): Promise<string[]> {
  const routes = JSON.parse(await must(["ip", "-4", "-j", "route", "show"])) as { dst: string }[];
  return routes.map(({ dst }) => dst);
}

function tryMakeDirectory(path: string): boolean {
  try {
    mkdirSync(path, { mode: 0o711 });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}
