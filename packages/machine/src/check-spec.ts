/**
 * The health checks of a configuration, as what is to be tried and when. Pure: a check is read in one place, so
 * that what is accepted at the border is what a worker runs.
 *
 * `http` and `tcp` are of the Machines API; `exec`, a program in the machine whose exit code 0 means that all is
 * well, is Hearth's own and belongs to the machine, not to one of its services.
 */
import { HearthError } from "@hearth/errors";
import type { MachineConfigInput } from "./config-schema.ts";
import { formatGoDuration, parseDurationMs } from "./duration.ts";

export type CheckInput = NonNullable<MachineConfigInput["checks"]>[string];

/** What a check has that does not say it, and between what it may say it; milliseconds. */
export const checkTimes = {
  interval: { defaultMs: 15_000, minMs: 1_000, maxMs: 3_600_000 },
  timeout: { defaultMs: 5_000, minMs: 100, maxMs: 60_000 },
  grace_period: { defaultMs: 10_000, minMs: 0, maxMs: 3_600_000 },
} as const;
type CheckTime = keyof typeof checkTimes;
const timeNames = Object.keys(checkTimes) as CheckTime[];

/** Each is a timer and a connection at a time on the host. */
export const maxChecks = 16;
const maxHeaders = 32;
const maxText = 2_048;

export interface HttpProbe {
  readonly type: "http";
  readonly port: number;
  readonly method: string;
  readonly path: string;
  /** Absent for plain HTTP. */
  readonly tls?: { readonly verify: boolean; readonly serverName?: string };
  readonly headers: readonly { readonly name: string; readonly values: readonly string[] }[];
}

export interface TcpProbe {
  readonly type: "tcp";
  readonly port: number;
}

export interface ExecProbe {
  readonly type: "exec";
  readonly command: readonly string[];
}

export type Probe = HttpProbe | TcpProbe | ExecProbe;

export interface CheckSpec {
  readonly name: string;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** From the start of the machine's program; in it a failure is a warning. */
  readonly graceMs: number;
  readonly probe: Probe;
}

/** A check of a configuration, where it stands and what its service says for it. */
interface Place {
  readonly name: string;
  readonly field: string;
  readonly check: CheckInput;
  readonly port?: number | undefined;
  readonly ofService: boolean;
}

/**
 * All checks of a machine, those of its services under the names that users of the API know.
 * @throws HearthError `invalid_argument`, naming the field
 */
export function checkSpecs(config: Pick<MachineConfigInput, "checks" | "services">): CheckSpec[] {
  const places = placesOf(config);
  if (places.length > maxChecks)
    throw invalid("checks", `and those of services are ${places.length}; a machine has at most ${maxChecks}`);
  const specs = places.map(readCheck);
  for (const [index, { name }] of specs.entries())
    if (specs.findIndex((other) => other.name === name) !== index)
      throw invalid(places[index]?.field ?? "checks", `has the name ${name}, which another check has`);
  return specs;
}

/** With durations as Go strings; undefined stays absent. */
export function withGoTimes<Config extends Pick<MachineConfigInput, "checks" | "services">>(
  config: Config,
): Config {
  const { checks, services } = config;
  const named = checks && Object.entries(checks).map(([name, check]) => [name, goTimes(check)] as const);
  return {
    ...config,
    ...(named && { checks: Object.fromEntries(named) }),
    ...(services && {
      services: services.map((service) =>
        service.checks ? { ...service, checks: service.checks.map(goTimes) } : service,
      ),
    }),
  };
}

function goTimes(check: CheckInput): CheckInput {
  const times = timeNames.flatMap((name) => {
    const value = check[name];
    return value === undefined ? [] : [[name, formatGoDuration(parseDurationMs(value, name))] as const];
  });
  return { ...check, ...Object.fromEntries(times) };
}

function placesOf({ checks, services }: Pick<MachineConfigInput, "checks" | "services">): Place[] {
  const own = Object.entries(checks ?? {}).map(
    ([name, check]): Place => ({ name, field: `checks.${name}`, check, ofService: false }),
  );
  let count = 0;
  const ofServices = (services ?? []).flatMap(({ internal_port, checks: listed }, service) =>
    (listed ?? []).map((check, index): Place => {
      const port = check.port ?? internal_port;
      const number = String(count++).padStart(2, "0");
      return {
        name: `servicecheck-${number}-${check.type ?? "tcp"}-${port ?? 0}`,
        field: `services[${service}].checks[${index}]`,
        check,
        port,
        ofService: true,
      };
    }),
  );
  return [...own, ...ofServices];
}

function readCheck(place: Place): CheckSpec {
  const { name, field, check } = place;
  if (!/^[\x21-\x7e]{1,63}$/.test(name))
    throw invalid(field, "needs a name of 1 to 63 printable characters without blanks");
  const timeMs = (which: CheckTime): number => {
    const { defaultMs, minMs, maxMs } = checkTimes[which];
    const given = check[which];
    if (given === undefined) return defaultMs;
    const ms = parseDurationMs(given, `${field}.${which}`);
    if (ms < minMs || ms > maxMs)
      throw invalid(
        `${field}.${which}`,
        `must be between ${formatGoDuration(minMs)} and ${formatGoDuration(maxMs)}`,
      );
    return ms;
  };
  return {
    name,
    intervalMs: timeMs("interval"),
    timeoutMs: timeMs("timeout"),
    graceMs: timeMs("grace_period"),
    probe: readProbe(place),
  };
}

function readProbe({ field, check, port = check.port, ofService }: Place): Probe {
  const { type = ofService ? "tcp" : undefined, command } = check;
  if (command !== undefined && type !== "exec")
    throw invalid(`${field}.command`, "belongs to a check of type exec");
  if (type === "exec") {
    if (ofService) throw invalid(`${field}.type`, "cannot be exec; put it into the machine's own checks");
    if (command === undefined || command.length === 0 || command.some((word) => word.includes("\0")))
      throw invalid(`${field}.command`, "must be a program and its arguments, without NUL");
    return { type, command };
  }
  if (type !== "http" && type !== "tcp") throw invalid(`${field}.type`, "must be http, tcp or exec");
  if (port === undefined) throw invalid(`${field}.port`, "is missing");
  return type === "tcp" ? { type, port } : readHttp(check, field, port);
}

function readHttp(check: CheckInput, field: string, port: number): HttpProbe {
  const { method = "GET", path = "/", protocol = "http", headers = [] } = check;
  if (!/^[A-Za-z]{1,16}$/.test(method) || method.toUpperCase() === "CONNECT")
    throw invalid(`${field}.method`, "is not a method that can be checked with");
  if (!/^\/[\x21-\x7e]*$/.test(path) || path.length > maxText)
    throw invalid(`${field}.path`, `must begin with / and have at most ${maxText} visible ASCII characters`);
  if (protocol !== "http" && protocol !== "https")
    throw invalid(`${field}.protocol`, "must be http or https");
  if (headers.length > maxHeaders) throw invalid(`${field}.headers`, `are more than ${maxHeaders}`);
  const serverName = check.tls_server_name;
  return {
    type: "http",
    port,
    method: method.toUpperCase(),
    path,
    ...(protocol === "https" && {
      tls: { verify: check.tls_skip_verify !== true, ...(serverName && { serverName }) },
    }),
    headers: headers.map(({ name = "", values = [] }, index) => {
      if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/.test(name))
        throw invalid(`${field}.headers[${index}].name`, "is not the name of a header");
      if (values.some((value) => !/^[\t\x20-\x7e]*$/.test(value) || value.length > maxText))
        throw invalid(`${field}.headers[${index}].values`, "must be short lines of printable ASCII");
      return { name, values };
    }),
  };
}

const invalid = (field: string, problem: string): HearthError =>
  new HearthError("invalid_argument", { message: `${field} ${problem}.`, details: { field } });
