/**
 * What machines may send to the world, as options. Their names are those of the API's fields. A rule is read here as the
 * API reads it, so that a mistake is told in the words that were typed and nothing is made before.
 */
import { HearthError } from "@hearth/errors";
import { maxEgressRules, parseEgressPolicy } from "@hearth/machine";
import type { EgressPolicy } from "@hearth/sdk";
import type { Command } from "commander";
import { usage } from "./failure.ts";
import { repeated } from "./options.ts";

export interface EgressOptions {
  readonly allowOut?: readonly string[];
  readonly denyOut?: readonly string[];
  /** False with --no-internet. */
  readonly internet?: boolean;
}

export const addEgressOptions = (command: Command): Command =>
  command
    .option(
      "--allow-out <rule>",
      "what may be reached though it is denied: [tcp:|udp:]address[:port]",
      repeated,
    )
    .option("--deny-out <rule>", "what may not be reached, such as all, 203.0.113.0/24 or all:25", repeated)
    .option("--no-internet", "deny all but what --allow-out names");

export const egressHelp = `
Of --allow-out and --deny-out an allow wins, and what neither names may be reached. An address is one of IPv4 or IPv6, a
block (203.0.113.0/24, 2001:db8::/32), all, or, for --allow-out, a domain (example.com, *.example.com) as Hearth's DNS
service resolves it; an IPv6 address that has a port stands in brackets.`;

/**
 * Undefined when none of the options is there.
 * @throws Failure that names the option and its rule
 */
export function egressOf({ allowOut, denyOut, internet = true }: EgressOptions): EgressPolicy | undefined {
  if (allowOut === undefined && denyOut === undefined && internet) return undefined;
  for (const rule of allowOut ?? []) check("--allow-out", rule, { allowOut: [rule] });
  for (const rule of denyOut ?? []) check("--deny-out", rule, { denyOut: [rule] });
  const both = allowOut?.find((rule) => denyOut?.includes(rule));
  if (both !== undefined)
    throw usage(`--allow-out and --deny-out both name ${both}, and an allow wins; use one of them for it.`);
  if ((allowOut?.length ?? 0) + (denyOut?.length ?? 0) > maxEgressRules)
    throw usage(`There are more than ${maxEgressRules} of --allow-out and --deny-out; name larger blocks.`);
  return {
    ...(allowOut === undefined ? {} : { allowOut: [...allowOut] }),
    ...(denyOut === undefined ? {} : { denyOut: [...denyOut] }),
    ...(internet ? {} : { allow_internet_access: false }),
  };
}

function check(option: string, rule: string, policy: EgressPolicy): void {
  try {
    parseEgressPolicy(policy);
  } catch (thrown) {
    const { details, message } = HearthError.from(thrown);
    const reason = message.replace(`${details?.field} `, "").replace(`: "${rule}"`, "");
    throw usage(`${option} ${rule} ${reason}`);
  }
}
