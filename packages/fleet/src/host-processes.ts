/** The processes of one host of a fleet, as this machine sees them: those in its namespace of processes. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename } from "node:path";

export interface HostProcess {
  /** As other processes of this machine know it, and not as the host does. */
  readonly pid: number;
  /** None for a moment while it becomes another program. */
  readonly args: readonly string[];
}

/** What a host runs, by the names that `hearth doctor` gives them. */
export const serviceNames = [
  "host-agent",
  "nats-server",
  "images",
  "dns",
  "worker",
  "regional",
  "ingress",
  "ssh",
] as const;
export type ServiceName = (typeof serviceNames)[number];

/** @param initPid the host's process 1 */
export function processesOf(initPid: number): HostProcess[] {
  const namespace = namespaceOf(initPid);
  if (namespace === undefined) return [];
  return readdirSync("/proc").flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || namespaceOf(pid) !== namespace) return [];
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
      return args.length === 0 && hasEnded(pid) ? [] : [{ pid, args }];
    } catch {
      // It ended while it was looked at.
      return [];
    }
  });
}

/** Whether a command line is that of a service, from its bundle or its sources. */
export function isService(args: readonly string[], name: ServiceName): boolean {
  if (name === "nats-server") return basename(args[0] ?? "") === name;
  const program = args.at(-1) ?? "";
  return program.endsWith(`/services/${name}.mjs`) || program.endsWith(`/services/${name}/src/main.ts`);
}

/** And waits for its parent to hear of it. @throws when it is not there any more */
const hasEnded = (pid: number): boolean =>
  /^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));

function namespaceOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}
