/** `hearth lease`: who may change a machine. While a lease lives, only who sends its nonce does. */
import { hostname, userInfo } from "node:os";
import type { LeaseData } from "@hearth/machine";
import { findMachine } from "@hearth/sdk";
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { appOption, jsonOption, parsePositive } from "./options.ts";
import { printJson, printLine, printTable } from "./output.ts";

interface Options {
  readonly app?: string;
  readonly json?: boolean;
  readonly ttl?: number;
  readonly description?: string;
  readonly nonce?: string;
}

export function define(command: Command, context: Context): void {
  const below = (name: string, description: string): Command =>
    command
      .command(name)
      .description(description)
      .argument("<machine>", "an id, a name, or the beginning of an id")
      .addOption(appOption())
      .addOption(jsonOption());
  const target = async (name: string, { app, nonce = context.environment.leaseNonce }: Options) => {
    const { app: of, id } = await findMachine(context.client(), name, { app });
    return nonce === undefined ? { app: of, id } : { app: of, id, nonce };
  };

  below("show", "who holds the lease, and until when").action(async (name: string, options: Options) =>
    report(await context.client().machines.leases.get(await target(name, options)), options.json),
  );
  below("acquire", "take the lease, or with its nonce keep it for longer; prints the nonce")
    .option("-t, --ttl <seconds>", "how long it lives (60)", parsePositive)
    .option("-d, --description <text>", "what for, shown to others")
    .option("--nonce <nonce>", "of the lease that you hold (HEARTH_LEASE_NONCE)")
    .action(async (name: string, options: Options) => {
      const held = await target(name, options);
      const { ttl = 60, description } = options;
      const lease = await context.client().machines.leases.acquire(held, {
        ttlSeconds: ttl,
        ...(description === undefined ? {} : { description }),
        ...("nonce" in held ? {} : { owner: `${userInfo().username}@${hostname()}` }),
      });
      if (options.json === true) printJson(lease);
      else printLine(lease.nonce ?? "");
    });
  below("release", "give the lease back")
    .option("--nonce <nonce>", "of the lease that you hold (HEARTH_LEASE_NONCE)")
    .action(async (name: string, options: Options) => {
      const held = await target(name, options);
      await context.client().machines.leases.release(held);
      if (options.json === true) printJson({ machine: name, id: held.id, ok: true });
      else printLine(name);
    });
}

function report(lease: LeaseData, json = false): void {
  if (json) {
    printJson(lease);
    return;
  }
  const { owner, expires_at, description, version } = lease;
  const until = new Date(expires_at * 1000).toISOString();
  printTable(["OWNER", "EXPIRES", "VERSION", "DESCRIPTION"], [[owner, until, version, description]]);
}
