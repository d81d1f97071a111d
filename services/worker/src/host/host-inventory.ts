/**
 * Everything on this host that carries the name of one node's worker: in its directories, by its slots' prefix, in
 * its firewall's table. Only a look; who owns what is decided by `inspectMachines`.
 */
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { type NetworkInventory, readNetworkInventory, slotPrefix } from "@hearth/network";
import { guardProcesses, type HostProcess, vmmProcesses } from "./host-leftovers.ts";
import type { HostPaths } from "./host-paths.ts";

export interface HostInventory {
  readonly processes: readonly (HostProcess & {
    readonly machineId: string;
    /** Undefined when the process ended while it was looked at. */
    readonly network: ProcessNetwork | undefined;
  })[];
  readonly guards: readonly (HostProcess & { readonly machineId: string })[];
  readonly network: NetworkInventory;
  /** Names in the run directory of VMs, which are ids of machines. */
  readonly runDirs: readonly string[];
  readonly machineDirs: readonly string[];
  /** Paths of scratch disks, and of those that were being made. */
  readonly disks: readonly string[];
  /** Unix sockets that somebody listens on below the run directory. */
  readonly sockets: readonly string[];
  readonly cgroups: readonly string[];
  readonly mounts: readonly string[];
  readonly loopDevices: readonly string[];
}

export interface ProcessNetwork {
  /** Of its network namespace. */
  readonly inode: number;
  readonly devices: readonly string[];
}

export async function readHostInventory(node: string, paths: HostPaths): Promise<HostInventory> {
  const vmms = await vmmProcesses(paths.runs);
  const [processes, guards, network, runDirs, machineDirs, sockets, cgroups, mounts, loopDevices] =
    await Promise.all([
      Promise.all(vmms.map(async (one) => ({ ...one, network: await networkOf(one.pid) }))),
      guardProcesses(paths.runs),
      readNetworkInventory(node),
      names(paths.runs),
      names(paths.machines),
      listeningBelow(
        paths.runs,
        vmms.map(({ pid }) => pid),
      ),
      cgroupsOf(node),
      mountsBelow([paths.data, paths.runs]),
      loopsBelow(paths.data),
    ]);
  const disks = await Promise.all(
    machineDirs.flatMap((id) => {
      const path = paths.scratch(id);
      return [path, `${path}.new`].map(async (file) => ((await exists(file)) ? [file] : []));
    }),
  );
  const seen = { processes, guards, network, runDirs, machineDirs, sockets, cgroups, mounts, loopDevices };
  return { ...seen, disks: disks.flat() };
}

const names = (directory: string): Promise<string[]> => readdir(directory).catch(() => []);
const text = (path: string): Promise<string> => readFile(path, "utf8").catch(() => "");
const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );
const isBelow = (path: string, directory: string): boolean =>
  path === directory || path.startsWith(`${directory}/`);

/**
 * The sockets of this process's network namespace and of those of the VMMs: the kernel lists them by namespace.
 * proc(5) net/unix: the path is the last field, and flag 00010000 is a listening socket.
 */
async function listeningBelow(directory: string, pids: readonly number[]): Promise<string[]> {
  const tables = await Promise.all(["self", ...pids].map((pid) => text(`/proc/${pid}/net/unix`)));
  const found = tables
    .flatMap((table) => table.split("\n").map((line) => line.trim().split(/\s+/)))
    .filter(
      ([, , , flags, , , , path]) => flags === "00010000" && path !== undefined && isBelow(path, directory),
    )
    .map((fields) => fields[7] ?? "");
  return [...new Set(found)];
}

/** proc(5) net/dev: two lines of headings, then `name: counters`. */
async function networkOf(pid: number): Promise<ProcessNetwork | undefined> {
  const link = await readlink(`/proc/${pid}/ns/net`).catch(() => "");
  const inode = Number(/^net:\[(\d+)\]$/.exec(link)?.[1]);
  const lines = (await text(`/proc/${pid}/net/dev`)).split("\n").slice(2);
  if (!Number.isInteger(inode) || lines.length === 0) return undefined;
  return { inode, devices: lines.map((line) => line.split(":")[0]?.trim() ?? "").filter(Boolean) };
}

/** Top level only: a group of ours would be made there. */
async function cgroupsOf(node: string): Promise<string[]> {
  const root = "/sys/fs/cgroup";
  return (await names(root))
    .filter((name) => name.startsWith(slotPrefix(node)))
    .map((name) => join(root, name));
}

/** A directory that is itself the mount of a disk is its operator's. */
async function mountsBelow(directories: readonly string[]): Promise<string[]> {
  const lines = (await text("/proc/self/mountinfo")).split("\n");
  const points = lines.map((line) => (line.split(" ")[4] ?? "").replaceAll("\\040", " "));
  return points.filter((point) => directories.some((one) => point !== one && isBelow(point, one)));
}

async function loopsBelow(directory: string): Promise<string[]> {
  const loops = (await names("/sys/block")).filter((name) => name.startsWith("loop"));
  const files = await Promise.all(
    loops.map(async (name) => ({ name, file: (await text(`/sys/block/${name}/loop/backing_file`)).trim() })),
  );
  return files.filter(({ file }) => isBelow(file, directory)).map(({ name }) => `/dev/${name}`);
}
