/**
 * Reads a MachineConfig that came from outside. After `parseMachineConfig` the machine's size is always
 * spelt out in `guest`, durations are Go strings, and nothing unknown is left in it. A member that is
 * null counts as absent, because several clients encode an absent field so.
 */

import { HearthError } from "@hearth/errors";
import Value from "typebox/value";
import { checkSpecs, withGoTimes } from "./check-spec.ts";
import { MachineConfigInput } from "./config-schema.ts";
import { formatGoDuration, parseDurationMs } from "./duration.ts";
import { parseEgressPolicy } from "./egress.ts";
import { checkPort, portFieldsNotActedOn } from "./port-config.ts";

export interface GuestSize {
  readonly cpu_kind: "shared" | "performance";
  readonly cpus: number;
  readonly memory_mb: number;
}

type GuestRest = Omit<NonNullable<MachineConfigInput["guest"]>, keyof GuestSize>;
export type MachineConfig = Omit<MachineConfigInput, "size" | "guest"> & { guest: GuestSize & GuestRest };

export const maxCpus = 64;
export const minMemoryMb = 64;

const presets = (kind: GuestSize["cpu_kind"], memoryMbPerCpu: number, counts: readonly number[]) =>
  counts.map((cpus): [string, GuestSize] => {
    const name = kind === "shared" ? `shared-cpu-${cpus}x` : `performance-${cpus}x`;
    return [name, { cpu_kind: kind, cpus, memory_mb: cpus * memoryMbPerCpu }];
  });

export const sizePresets: ReadonlyMap<string, GuestSize> = new Map([
  ...presets("shared", 256, [1, 2, 4, 6, 8]),
  ...presets("performance", 2048, [1, 2, 4, 6, 8, 10, 12, 14, 16]),
]);
export const defaultSize = "shared-cpu-1x";

const actedOn: ReadonlySet<string> = new Set([
  "image",
  "env",
  "init",
  "guest",
  "size",
  "restart",
  "schedule",
  "auto_destroy",
  "restart_elsewhere",
  "checks",
  "metadata",
  "files",
  "stop_config",
  "placement",
  "services",
  "disable_machine_autostart",
  "network",
]);

/** The fields of a configuration that are stored but have no effect yet, sorted. */
export function fieldsNotActedOn(config: Partial<MachineConfigInput>): string[] {
  const whole = Object.entries(config)
    .filter(([name, value]) => !actedOn.has(name) && value !== undefined && !isEmpty(value))
    .map(([name]) => name);
  return [...whole, ...servicesNotActedOn(config.services ?? [])].sort();
}

/** What the front door does not do of what a service asks of it. */
function servicesNotActedOn(services: NonNullable<MachineConfigInput["services"]>): string[] {
  return services.flatMap(({ protocol = "tcp", autostop, ports = [], checks = [] }, index) => {
    const at = `services[${index}]`;
    return [
      ...(protocol === "tcp" ? [] : [`${at}.protocol`]),
      ...(autostop === "suspend" ? [`${at}.autostop`] : []),
      ...checks.flatMap(({ kind }, check) => (kind === undefined ? [] : [`${at}.checks[${check}].kind`])),
      ...ports.flatMap((port, place) =>
        portFieldsNotActedOn(port).map((name) => `${at}.ports[${place}].${name}`),
      ),
    ];
  });
}

/** Absent, false and empty ask for nothing, so there is nothing to warn about. */
const isEmpty = (value: unknown): boolean =>
  value === null || value === false || (typeof value === "object" && Object.keys(value).length === 0);

/**
 * @throws HearthError `invalid_argument` or `unknown_field` (`details.field` is the path),
 *   `machine_memory_too_small`
 */
export function parseMachineConfig(input: unknown): MachineConfig {
  const stripped = withoutNulls(input);
  if (!Value.Check(MachineConfigInput, stripped)) throw schemaError(stripped);
  const { size, guest, ...given } = stripped;
  checkEnvNames(given.env);
  checkFiles(given.files);
  parseEgressPolicy(given.network ?? {}, "network");
  checkSpecs(given);
  for (const [index, { ports = [] }] of (given.services ?? []).entries())
    for (const [place, port] of ports.entries()) checkPort(port, `services[${index}].ports[${place}]`);
  checkElsewhere(stripped);
  const rest = withGoTimes(given);
  const config: MachineConfig = { ...rest, guest: resolveGuest(size, guest) };
  const timeout = rest.stop_config?.timeout;
  if (timeout === undefined) return config;
  const normalised = formatGoDuration(parseDurationMs(timeout, "stop_config.timeout"));
  return { ...config, stop_config: { ...rest.stop_config, timeout: normalised } };
}

function resolveGuest(size: string | undefined, guest: MachineConfigInput["guest"]): MachineConfig["guest"] {
  const preset = sizePresets.get(size ?? defaultSize);
  if (preset === undefined)
    throw invalid("size", `is not a known size; use one of ${[...sizePresets.keys()].join(", ")}`);
  const merged = { ...preset, ...guest };
  if (merged.cpus < 1 || merged.cpus > maxCpus)
    throw invalid("guest.cpus", `must be between 1 and ${maxCpus}`);
  if (merged.memory_mb < minMemoryMb)
    throw new HearthError("machine_memory_too_small", {
      message: `guest.memory_mb is ${merged.memory_mb}; the smallest machine has ${minMemoryMb}.`,
      details: { field: "guest.memory_mb", minimum: minMemoryMb },
    });
  return merged;
}

function checkEnvNames(env: MachineConfigInput["env"]): void {
  for (const [name, value] of Object.entries(env ?? {}))
    if (name === "" || name.includes("=") || name.includes("\0") || value.includes("\0"))
      throw invalid(
        `env.${name}`,
        "cannot be an environment variable (empty name, `=` in the name, or a NUL)",
      );
}

function checkFiles(files: MachineConfigInput["files"]): void {
  for (const [index, file] of (files ?? []).entries()) {
    const path = file.guest_path;
    if (!path.startsWith("/") || path.split("/").includes("..") || path.includes("\0"))
      throw invalid(`files[${index}].guest_path`, "must be an absolute path without `..`");
    const sources = [file.raw_value, file.secret_name, file.image_config].filter(
      (each) => each !== undefined,
    );
    if (sources.length !== 1)
      throw invalid(`files[${index}]`, "needs one of raw_value, secret_name and image_config");
    if (file.raw_value !== undefined && !isBase64(file.raw_value))
      throw invalid(`files[${index}].raw_value`, "is not base64");
  }
}

/** What is kept on one host, or must not be done twice, cannot begin anew on another. */
function checkElsewhere({
  restart_elsewhere,
  auto_destroy,
  mounts,
  guest,
  rootfs,
}: MachineConfigInput): void {
  if (restart_elsewhere !== true) return;
  const kept = guest?.persist_rootfs ?? "never";
  const reason =
    (mounts ?? []).length > 0
      ? "mounts: a volume stays on its host"
      : kept !== "never" && kept !== 0
        ? "guest.persist_rootfs: the disk stays on its host"
        : rootfs?.persist !== undefined && rootfs.persist !== false && rootfs.persist !== "never"
          ? "rootfs.persist: the disk stays on its host"
          : auto_destroy === true
            ? "auto_destroy: nobody can tell whether the machine was done when its host was lost"
            : undefined;
  if (reason !== undefined) throw invalid("restart_elsewhere", `cannot be kept together with ${reason}`);
}

const isBase64 = (text: string): boolean => text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text);

const invalid = (field: string, problem: string): HearthError =>
  new HearthError("invalid_argument", { message: `${field} ${problem}.`, details: { field } });

function schemaError(input: unknown): HearthError {
  const errors = Value.Errors(MachineConfigInput, input);
  for (const error of errors)
    if (error.keyword === "additionalProperties") {
      const [name = ""] = error.params.additionalProperties;
      const field = fieldPath(`${error.instancePath}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`);
      const message = `Nobody knows the field ${field}; remove it.`;
      return new HearthError("unknown_field", { message, details: { field } });
    }
  for (const error of errors)
    if (error.keyword === "required") {
      const [name = ""] = error.params.requiredProperties;
      return invalid(fieldPath(`${error.instancePath}/${name}`), "is missing");
    }
  // A union reports each of its branches and then itself; its own report is the one that reads well.
  const error = errors.find((each) => each.keyword === "anyOf") ?? errors[0];
  const field = fieldPath(error?.instancePath ?? "");
  return invalid(
    field,
    error?.keyword === "anyOf" ? "has none of the forms it may have" : (error?.message ?? "is not valid"),
  );
}

/** A JSON pointer as people write it: `/files/0/guest_path` is `files[0].guest_path`. */
function fieldPath(pointer: string): string {
  let path = "";
  for (const part of pointer.split("/").slice(1)) {
    const name = part.replaceAll("~1", "/").replaceAll("~0", "~");
    if (/^\d+$/.test(name)) path += `[${name}]`;
    else path += path === "" ? name : `.${name}`;
  }
  return path === "" ? "config" : path;
}

function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(([, member]) => member !== null);
  return Object.fromEntries(kept.map(([name, member]) => [name, withoutNulls(member)]));
}
