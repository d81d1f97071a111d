/** Commands that only the agent of a running machine can answer, and how its answers look to clients. */
import { basename } from "node:path/posix";
import type { GuestClient, wire } from "@hearth/guest";
import type { WorkerRequest } from "@hearth/machine";
import type { LiveMachine } from "../machines/live-machine.ts";

export interface ProcessStat {
  readonly pid: number;
  readonly stime: number;
  readonly rtime: number;
  readonly command: string;
  readonly directory: string;
  readonly cpu: number;
  readonly rss: number;
  readonly listen_sockets: readonly { readonly proto: string; readonly address: string }[];
}

export interface FileEntry {
  readonly name: string;
  readonly kind: "regular" | "directory" | "symlink" | "other";
  readonly size: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly modified_ms: number;
  readonly link_target: string;
}

const kinds = ["other", "regular", "directory", "symlink", "other"] as const;

export class GuestCommands {
  /** Throws vmm_not_running, machine_not_found. */
  readonly #live: (machineId: string) => LiveMachine;

  constructor(live: (machineId: string) => LiveMachine) {
    this.#live = live;
  }

  async signal({ machine_id, signal }: WorkerRequest<"signal">, limit: AbortSignal): Promise<null> {
    return await this.#call(machine_id, limit, async (client, inner) => {
      await client.signal({ pid: 0, signal }, { signal: inner });
      return null;
    });
  }

  async ps({ machine_id }: WorkerRequest<"ps">, limit: AbortSignal): Promise<ProcessStat[]> {
    return await this.#call(machine_id, limit, async (client, inner) => {
      const { processes } = await client.listProcesses({}, { signal: inner });
      return processes.filter(({ argv }) => argv[0]?.startsWith("[") !== true).map(processStat);
    });
  }

  async list({ machine_id, path }: WorkerRequest<"file-list">, limit: AbortSignal): Promise<FileEntry[]> {
    return await this.#call(machine_id, limit, async (client, inner) => {
      const { entries } = await client.listDirectory({ path }, { signal: inner });
      return entries.map((entry) => fileEntry(entry));
    });
  }

  async stat({ machine_id, path }: WorkerRequest<"file-stat">, limit: AbortSignal): Promise<FileEntry> {
    return await this.#call(machine_id, limit, async (client, inner) => {
      const { info } = await client.stat({ path, follow: false }, { signal: inner });
      return fileEntry(info, path);
    });
  }

  async mkdir(request: WorkerRequest<"file-mkdir">, limit: AbortSignal): Promise<null> {
    const { machine_id, path, parents = false } = request;
    return await this.#call(machine_id, limit, async (client, inner) => {
      await client.makeDirectory({ path, mode: 0o755, parents }, { signal: inner });
      return null;
    });
  }

  async remove(request: WorkerRequest<"file-remove">, limit: AbortSignal): Promise<null> {
    const { machine_id, path, recursive = false } = request;
    return await this.#call(machine_id, limit, async (client, inner) => {
      await client.remove({ path, recursive }, { signal: inner });
      return null;
    });
  }

  async rename({ machine_id, path, to }: WorkerRequest<"file-rename">, limit: AbortSignal): Promise<null> {
    return await this.#call(machine_id, limit, async (client, inner) => {
      await client.rename({ from: path, to }, { signal: inner });
      return null;
    });
  }

  async #call<T>(
    machineId: string,
    limit: AbortSignal,
    work: (client: GuestClient, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return await this.#live(machineId).call(work, limit);
  }
}

/** Times in whole seconds; the agent tells neither the wall time of a process nor its directory and sockets. */
function processStat({ pid, argv, rssBytes, cpuMs }: wire.Process): ProcessStat {
  const seconds = Math.floor(Number(cpuMs) / 1000);
  return {
    pid,
    stime: seconds,
    rtime: seconds,
    command: argv.join(" "),
    directory: "",
    cpu: 0,
    rss: Number(rssBytes),
    listen_sockets: [],
  };
}

function fileEntry(info: wire.FileInfo | undefined, path = ""): FileEntry {
  return {
    name: info?.name || basename(path) || "/",
    kind: kinds[info?.kind ?? 0] ?? "other",
    size: Number(info?.size ?? 0),
    mode: (info?.mode ?? 0) & 0o7777,
    uid: info?.uid ?? 0,
    gid: info?.gid ?? 0,
    modified_ms: Number(info?.modifiedMs ?? 0),
    link_target: info?.linkTarget ?? "",
  };
}
