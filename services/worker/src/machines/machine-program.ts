/** What a machine runs and what its program finds around it, from its configuration and its image. Pure. */
import { HearthError } from "@hearth/errors";
import { type MachineConfig, type NodeImage, parseDurationMs } from "@hearth/machine";
import type { MachineRow, StopRequest } from "./machine-row.ts";

/**
 * `init.exec` is the whole command. Otherwise entrypoint, then arguments; another entrypoint than the image's
 * does not take the image's arguments along.
 * @throws HearthError `no_command`
 */
export function programArgv(config: MachineConfig, image: NodeImage): string[] {
  const { exec, entrypoint, cmd } = config.init ?? {};
  if (exec !== undefined && exec.length > 0) return [...exec];
  const own = entrypoint !== undefined && entrypoint.length > 0;
  const head = own ? entrypoint : image.config.entrypoint;
  const tail = cmd !== undefined && cmd.length > 0 ? cmd : own ? [] : image.config.cmd;
  const argv = [...head, ...tail];
  if (argv.length === 0) throw new HearthError("no_command");
  return argv;
}

export interface ProgramPlace {
  readonly nodeId: string;
  readonly privateIp: string;
  readonly imageRef: string;
}

/** The image's, then the platform's, then the machine's own, of which the last wins. */
export function programEnv(row: MachineRow, image: NodeImage, place: ProgramPlace): Record<string, string> {
  const fromImage = image.config.env.map((line): [string, string] => {
    const at = line.indexOf("=");
    return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1)];
  });
  const group = row.config.metadata?.fly_process_group;
  const told = {
    APP_NAME: row.app,
    MACHINE_ID: row.machineId,
    MACHINE_VERSION: row.instanceId,
    REGION: row.region,
    PRIVATE_IP: place.privateIp,
    IMAGE_REF: place.imageRef,
    VM_MEMORY_MB: String(row.config.guest.memory_mb),
    ...(group === undefined ? {} : { PROCESS_GROUP: group }),
  };
  const named = (prefix: string) =>
    Object.fromEntries(Object.entries(told).map(([name, value]) => [`${prefix}_${name}`, value]));
  return {
    ...Object.fromEntries(fromImage),
    ...named("FLY"),
    FLY_ALLOC_ID: row.machineId,
    ...named("HEARTH"),
    HEARTH_NODE: place.nodeId,
    ...row.config.env,
  };
}

const signalNumbers: Readonly<Record<string, number>> = {
  HUP: 1,
  INT: 2,
  QUIT: 3,
  ILL: 4,
  TRAP: 5,
  ABRT: 6,
  KILL: 9,
  USR1: 10,
  SEGV: 11,
  USR2: 12,
  PIPE: 13,
  ALRM: 14,
  TERM: 15,
  CONT: 18,
  STOP: 19,
  WINCH: 28,
};
const defaultSignal = 2;
const defaultTimeoutMs = 5_000;

/** `SIGTERM`, `TERM`, `15` and `RTMIN+3` as a number; undefined for what is none. */
export function signalNumber(text: string | undefined): number | undefined {
  const name = text?.trim().toUpperCase().replace(/^SIG/, "") ?? "";
  const realTime = /^RTMIN\+(\d+)$/.exec(name);
  const number =
    realTime !== null ? 34 + Number(realTime[1]) : /^\d+$/.test(name) ? Number(name) : signalNumbers[name];
  return number !== undefined && number >= 1 && number <= 64 ? number : undefined;
}

/** The request, then the machine's `stop_config`, then the image's signal, then SIGINT and five seconds. */
export function stopPlan(row: MachineRow, request: StopRequest): { signal: number; timeoutMs: number } {
  const { signal, timeout } = row.config.stop_config ?? {};
  return {
    signal:
      request.signal ?? signalNumber(signal) ?? signalNumber(row.image?.config.stopSignal) ?? defaultSignal,
    timeoutMs:
      request.timeoutMs ??
      (timeout === undefined ? defaultTimeoutMs : parseDurationMs(timeout, "stop_config.timeout")),
  };
}

/** Whether what the guest wrote outlives this end of it. `restart` keeps it when another start follows at once. */
export function keepsDisk(config: MachineConfig, startsAgain: boolean): boolean {
  const kept = config.guest.persist_rootfs ?? "never";
  return kept === "always" || kept === 2 || ((kept === "restart" || kept === 1) && startsAgain);
}
