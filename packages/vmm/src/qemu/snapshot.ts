/**
 * A VM as files: `snapshot.json`, `state` (the devices) and `memory` (the guest's RAM).
 *
 * RAM in a shared mapping is left out of the device state (`x-ignore-shared`) and copied beside it with its
 * holes, so that a clone can map that file privately and run before it has read any of it. RAM that is itself
 * a private mapping, as in a clone, cannot be reached from outside; it then travels inside the state, and
 * there is no `memory`. The state goes over a unix socket served here, as QEMU may not spawn and need not be
 * given files. `snapshot.json` is written last: a directory without it is not a snapshot.
 */
import { execFile } from "node:child_process";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, open, readdir, readFile, readlink, rename, rm, stat, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { HearthError } from "@hearth/errors";
import type { VmmHandle, VmmSpec } from "../port.ts";
import type { QmpClient } from "./qmp.ts";

const formatVersion = 1;
const migrationLimitMs = 120_000;
const migrationPollMs = 2;

export const SnapshotMemory = { file: "file", stream: "stream" } as const;
export type SnapshotMemory = (typeof SnapshotMemory)[keyof typeof SnapshotMemory];

export interface QemuSnapshot {
  readonly version: typeof formatVersion;
  readonly kind: "qemu";
  /** KVM's state does not load under TCG, nor the other way round. */
  readonly accelerator: string;
  readonly memory: SnapshotMemory;
  readonly spec: VmmSpec;
}

export const memoryPath = (dir: string): string => join(dir, "memory");
const statePath = (dir: string): string => join(dir, "state");
const manifestPath = (dir: string): string => join(dir, "snapshot.json");

/** Throws vmm_snapshot_invalid for what is incomplete, foreign or of another version. */
export async function readSnapshot(dir: string): Promise<QemuSnapshot> {
  try {
    const manifest = JSON.parse(await readFile(manifestPath(dir), "utf8")) as Partial<QemuSnapshot>;
    if (manifest.kind !== "qemu" || manifest.version !== formatVersion || manifest.spec === undefined) {
      throw new Error(`kind ${manifest.kind}, version ${manifest.version}`);
    }
    await stat(statePath(dir));
    if (manifest.memory === SnapshotMemory.file) {
      const size = (await stat(memoryPath(dir))).size;
      if (size !== manifest.spec.memoryMib * 2 ** 20) throw new Error(`the memory has ${size} bytes`);
    }
    return manifest as QemuSnapshot;
  } catch (cause) {
    throw new HearthError("vmm_snapshot_invalid", { cause });
  }
}

/** The VM has to be paused. It stays so, and may be resumed. */
export async function writeSnapshot(options: {
  readonly qmp: QmpClient;
  readonly handle: VmmHandle;
  readonly dir: string;
  readonly accelerator: string;
}): Promise<void> {
  const { qmp, handle, dir, accelerator } = options;
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await rm(manifestPath(dir), { force: true });
  const sharedMemory = await findSharedMemory(handle.pid);
  const memory = sharedMemory === null ? SnapshotMemory.stream : SnapshotMemory.file;
  await ignoreSharedMemory(qmp, memory);
  await receiveState(qmp, join(handle.spec.runDir, "state.sock"), statePath(dir));
  await rm(memoryPath(dir), { force: true });
  if (sharedMemory !== null) {
    // A guest's RAM holds its secrets: the file is closed to others before there is anything in it.
    await writeFile(memoryPath(dir), "", { mode: 0o600 });
    await promisify(execFile)("cp", ["--sparse=always", sharedMemory, memoryPath(dir)]);
  }
  const manifest: QemuSnapshot = {
    version: formatVersion,
    kind: "qemu",
    accelerator,
    memory,
    spec: handle.spec,
  };
  await publish(dir, JSON.stringify(manifest));
}

/** Loads the device state into a QEMU that was started with `-incoming defer`. It is paused afterwards. */
export async function loadSnapshot(options: {
  readonly qmp: QmpClient;
  readonly snapshot: QemuSnapshot;
  readonly runDir: string;
  readonly dir: string;
}): Promise<void> {
  const { qmp, snapshot, runDir, dir } = options;
  const path = join(runDir, "state.sock");
  await rm(path, { force: true });
  await ignoreSharedMemory(qmp, snapshot.memory);
  await qmp.execute("migrate-incoming", { uri: `unix:${path}` });
  const socket = connect(path);
  try {
    // QEMU closes once it has the last byte, which the pipeline may take for a broken connection. Whether
    // the state is whole is for QEMU to say: with too little it fails.
    const sent = pipeline(createReadStream(statePath(dir)), socket).catch(() => undefined);
    await migrationDone(qmp);
    await sent;
  } finally {
    socket.destroy();
    await rm(path, { force: true });
  }
}

async function ignoreSharedMemory(qmp: QmpClient, memory: SnapshotMemory): Promise<void> {
  const state = memory === SnapshotMemory.file;
  await qmp.execute("migrate-set-capabilities", { capabilities: [{ capability: "x-ignore-shared", state }] });
}

/** The RAM of a VM that has it in a memfd: QEMU's own descriptor, seen through /proc. Null for a clone. */
async function findSharedMemory(pid: number): Promise<string | null> {
  const directory = `/proc/${pid}/fd`;
  for (const name of await readdir(directory)) {
    const target = await readlink(join(directory, name)).catch(() => "");
    if (target.startsWith("/memfd:memory-backend-memfd")) return join(directory, name);
  }
  return null;
}

async function receiveState(qmp: QmpClient, socketPath: string, file: string): Promise<void> {
  await rm(socketPath, { force: true });
  const received = Promise.withResolvers<void>();
  received.promise.catch(() => undefined);
  const server = createServer((socket) => {
    pipeline(socket, createWriteStream(file, { mode: 0o600 })).then(received.resolve, received.reject);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(socketPath, resolve);
  });
  try {
    await qmp.execute("migrate", { uri: `unix:${socketPath}` });
    await migrationDone(qmp);
    await received.promise;
  } finally {
    server.close();
  }
}

async function migrationDone(qmp: QmpClient): Promise<void> {
  const deadline = Date.now() + migrationLimitMs;
  while (Date.now() < deadline) {
    const info = (await qmp.execute("query-migrate")) as { status?: string; "error-desc"?: string };
    if (info.status === "completed") return;
    if (info.status === "failed" || info.status === "cancelled") {
      throw new Error(`migration ${info.status}: ${info["error-desc"] ?? "see qemu.log"}`);
    }
    await delay(migrationPollMs);
  }
  throw new HearthError("deadline_exceeded");
}

/** Everything else first reaches the disk, then the name appears. */
async function publish(dir: string, manifest: string): Promise<void> {
  for (const path of [statePath(dir), memoryPath(dir)]) {
    const file = await open(path, "r").catch(() => null);
    await file?.sync();
    await file?.close();
  }
  const temporary = `${manifestPath(dir)}.new`;
  const file = await open(temporary, "w", 0o600);
  try {
    await file.writeFile(manifest);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, manifestPath(dir));
}
