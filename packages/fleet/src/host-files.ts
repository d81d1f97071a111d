/** The files of one host of a fleet: what it keeps, what it boots with, and the script by which people enter it. */
import { randomUUID } from "node:crypto";
import {
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { HearthError } from "@hearth/errors";
import { enterCommand } from "./namespace-set.ts";

export const repositoryRoot: string = resolve(import.meta.dirname, "../../..");

export interface HostFiles {
  readonly directory: string;
  readonly dataDir: string;
  readonly runDir: string;
  /** Runs what it is given on the host, or a shell. */
  readonly enterPath: string;
  /** The operator's, which is on the first host alone; it is there when the region is. */
  readonly tokenPath: string;
}

export function hostFiles(fleetDirectory: string, port: string): HostFiles {
  const directory = join(fleetDirectory, port);
  return {
    directory,
    dataDir: join(directory, "data"),
    runDir: join(directory, "run"),
    enterPath: join(directory, "enter"),
    tokenPath: join(fleetDirectory, "h1/data/token"),
  };
}

/** What a boot of the host finds: a new boot id, and nothing of what a restart takes away. */
export function prepareBoot({ directory, runDir }: HostFiles, clockSkewMs: number): void {
  const bootId = randomUUID();
  rmSync(runDir, { recursive: true, force: true });
  for (const name of ["cgroup", "etc", "assets"]) mkdirSync(join(directory, name), { recursive: true });
  writeFileSync(join(directory, "boot_id"), `${bootId}\n`);
  linkAssets(join(directory, "assets"), bootId);
  setClock(join(directory, "etc"), clockSkewMs);
}

/**
 * By libfaketime, which answers in place of libc what time it is. It is loaded for every program of the host by a
 * file and not by its environment, which the host agent keeps from its services. Both clocks are shifted, each by a
 * constant from the boot on, so that only the wall clock's shift can be noticed.
 */
function setClock(etc: string, skewMs: number): void {
  const preload = join(etc, "ld.so.preload");
  rmSync(preload, { force: true });
  if (skewMs === 0) return;
  const [library] = globSync("/usr/lib/*/faketime/libfaketimeMT.so.1");
  if (library === undefined)
    throw new HearthError("host_requirement_missing", {
      message: "A clock that is wrong needs libfaketime; install the package faketime.",
    });
  writeFileSync(preload, `${library}\n`);
  writeFileSync(join(etc, "faketimerc"), `${skewMs < 0 ? "-" : "+"}${Math.abs(skewMs) / 1000}s\n`);
}

/**
 * The host's own view of what guests boot from: an agent keeps there, by boot, whether KVM runs guests. The kernel
 * under all hosts of a fleet is this machine's, so what is known of it is told to each instead of tried by each.
 */
function linkAssets(directory: string, bootId: string): void {
  const source = join(repositoryRoot, ".hearth/assets");
  const answer = "kvm-answer.json";
  for (const name of existsSync(source) ? readdirSync(source) : []) {
    const path = join(directory, name);
    rmSync(path, { force: true });
    if (name !== answer) symlinkSync(join(source, name), path);
  }
  try {
    const known = JSON.parse(readFileSync(join(source, answer), "utf8")) as object;
    writeFileSync(join(directory, answer), JSON.stringify({ ...known, boot_id: bootId }));
  } catch {
    // Nobody has asked on this machine yet; the host will.
  }
}

/** What a command on a host is told, beside what every process of this machine has. */
export function hostEnvironment(files: HostFiles): Record<string, string> {
  const token = existsSync(files.tokenPath)
    ? { HEARTH_TOKEN: readFileSync(files.tokenPath, "utf8").trim() }
    : {};
  return { ...directories(files), ...token };
}

function directories({ directory, dataDir, runDir }: HostFiles): Record<string, string> {
  return {
    HEARTH_DATA_DIR: dataDir,
    HEARTH_RUN_DIR: runDir,
    HEARTH_ASSETS: join(directory, "assets"),
  };
}

export function writeEnterScript(files: HostFiles, name: string, initPid: number): void {
  const variables = Object.entries(directories(files)).map(([key, value]) => `export ${key}='${value}'`);
  const lines = [
    "#!/bin/sh",
    `# Runs a command on the host ${name} of a fleet, or a shell when none is named.`,
    "unset HEARTH_API_URL HEARTH_TOKEN HEARTH_API_PORT",
    ...variables,
    `[ ! -r '${files.tokenPath}' ] || export HEARTH_TOKEN="$(cat '${files.tokenPath}')"`,
    `export PATH='${join(repositoryRoot, "cli/bin")}':"$PATH"`,
    '[ "$#" -gt 0 ] || set -- bash',
    `exec ${enterCommand(`${initPid}`).join(" ")} "$@"`,
    "",
  ];
  writeFileSync(files.enterPath, lines.join("\n"), { mode: 0o755 });
}
