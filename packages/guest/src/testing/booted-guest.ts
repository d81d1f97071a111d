/** A real machine for tests: the platform's kernel, the agent as built here, an image and a scratch disk. */
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { QemuVmm, type Vmm, type VmmExit, type VmmNic, type VmmSpec } from "@hearth/vmm";
import { connectGuest, type GuestClient, type GuestConnection } from "../../mod.ts";
import { ExecRequestSchema, type ExecStartSchema } from "../gen/hearth/guest/v1/guest_pb.js";
import { buildAgent } from "./local-agent.ts";

const repository = join(import.meta.dirname, "../../../..");
const busybox = "/bin/busybox";
const bootLimitMs = 60_000;
const conditionLimitMs = 30_000;

/** Why no machine can be booted here, or false. */
export function missingForBoot(): string | false {
  if (!existsSync(busybox)) return "this host has no /bin/busybox; install busybox-static";
  for (const [program, flag] of [
    ["cargo", "--version"],
    ["qemu-system-x86_64", "--version"],
    ["mksquashfs", "-version"],
    ["mkfs.ext4", "-V"],
  ] as const)
    try {
      execFileSync(program, [flag], { stdio: "ignore" });
    } catch {
      return `this host has no ${program}`;
    }
  return false;
}

export interface BootOptions {
  readonly memoryMib?: number;
  readonly nics?: readonly VmmNic[];
  /** Adds to the image's tree, which has busybox in /bin. */
  readonly furnish?: (tree: string) => void;
  /** Without it the image has nothing but /bin, not even a directory to mount on. */
  readonly bare?: boolean;
}

export class BootedGuest {
  readonly directory = mkdtempSync(join(tmpdir(), "hearth-boot-"));
  readonly vmm: Vmm = new QemuVmm();
  readonly #machines: Vmm[] = [this.vmm];
  readonly #connections: GuestConnection[] = [];

  static async boot(options: BootOptions = {}): Promise<BootedGuest> {
    const booted = new BootedGuest();
    try {
      await booted.#start(options);
      return booted;
    } catch (error) {
      await booted[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(options: BootOptions): Promise<void> {
    buildAgent();
    execFileSync("bash", [join(repository, "scripts/assets.sh")], { stdio: ["ignore", "ignore", "inherit"] });
    const assets = join(repository, ".hearth/assets");
    const spec: VmmSpec = {
      id: "boot",
      runDir: join(this.directory, "run"),
      kernel: join(assets, "vmlinux"),
      initrd: join(assets, "initrd.cpio"),
      cmdline: "",
      cpus: 1,
      memoryMib: options.memoryMib ?? 192,
      disks: [
        { path: this.#makeImage(options), readOnly: true },
        { path: this.#makeScratch(), readOnly: false },
      ],
      nics: options.nics ?? [],
      consolePath: join(this.directory, "console"),
    };
    await this.vmm.start(spec);
    await this.connect();
  }

  #makeImage(options: BootOptions): string {
    const tree = join(this.directory, "image");
    for (const name of options.bare ? ["bin"] : ["bin", "etc", "tmp"])
      mkdirSync(join(tree, name), { recursive: true });
    copyFileSync(busybox, join(tree, "bin/busybox"));
    for (const name of execFileSync(busybox, ["--list"], { encoding: "utf8" }).trim().split("\n"))
      if (name !== "busybox") symlinkSync("busybox", join(tree, "bin", name));
    options.furnish?.(tree);
    const image = join(this.directory, "image.squashfs");
    const owners = process.getuid?.() === 0 ? [] : ["-all-root"];
    execFileSync("mksquashfs", [tree, image, "-quiet", "-no-progress", ...owners], { stdio: "ignore" });
    return image;
  }

  #makeScratch(): string {
    const scratch = join(this.directory, "scratch.ext4");
    writeFileSync(scratch, "");
    truncateSync(scratch, 64 << 20);
    execFileSync("mkfs.ext4", ["-q", "-F", scratch]);
    return scratch;
  }

  /** Of the newest connection. */
  get client(): GuestClient {
    const connection = this.#connections.at(-1);
    if (connection === undefined) throw new Error("the guest is not connected");
    return connection.client;
  }

  error(thrown: unknown): Error {
    return this.#connections.at(-1)?.error(thrown) ?? new Error("no guest is connected", { cause: thrown });
  }

  /** Asks again and again, which takes the machine's own time. */
  async until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const limit = AbortSignal.timeout(conditionLimitMs);
    while (!(await condition())) if (limit.aborted) throw new Error(`it is still not so that ${what}`);
  }

  /** A new conversation, as a host begins that was started again; an older one breaks. */
  async connect(): Promise<void> {
    this.#connections.push(await this.#converse(this.vmm, join(this.directory, "console")));
  }

  /** Leaves the machine without a host. */
  async disconnect(): Promise<void> {
    await this.#connections.pop()?.[Symbol.asyncDispose]();
  }

  async #converse(vmm: Vmm, console: string): Promise<GuestConnection> {
    try {
      return await connectGuest(await vmm.channel(), {
        timeoutMs: bootLimitMs,
        booting: this.#connections.length === 0,
      });
    } catch (cause) {
      throw new Error(`the guest's console: ${readFileSync(console, "utf8")}`, { cause });
    }
  }

  /** Copies the machine as it is, with its disk. This one runs on. */
  async snapshot(): Promise<void> {
    try {
      await this.vmm.snapshot(join(this.directory, "snapshot"));
      copyFileSync(join(this.directory, "scratch.ext4"), join(this.directory, "scratch-copy.ext4"));
    } finally {
      // Whatever fails: to a machine left paused the next call would wait.
      await this.vmm.resume();
    }
  }

  async clone(name: string, nics: readonly VmmNic[] = []): Promise<GuestConnection> {
    const vmm = new QemuVmm();
    this.#machines.push(vmm);
    const scratch = join(this.directory, `scratch-${name}.ext4`);
    copyFileSync(join(this.directory, "scratch-copy.ext4"), scratch);
    const consolePath = join(this.directory, `console-${name}`);
    await vmm.restore(join(this.directory, "snapshot"), {
      id: name,
      runDir: join(this.directory, `run-${name}`),
      consolePath,
      nics,
      disks: [
        { path: join(this.directory, "image.squashfs"), readOnly: true },
        { path: scratch, readOnly: false },
      ],
    });
    const connection = await this.#converse(vmm, consolePath);
    this.#connections.unshift(connection);
    return connection;
  }

  exit(limitMs: number): Promise<VmmExit> {
    const { promise, resolve, reject } = Promise.withResolvers<VmmExit>();
    const timer = setTimeout(() => reject(new Error(`the machine runs after ${limitMs} ms`)), limitMs);
    const stopListening = this.vmm.onExit(resolve);
    return promise.finally(() => {
      clearTimeout(timer);
      stopListening();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const connection of this.#connections.reverse()) await connection[Symbol.asyncDispose]();
    for (const machine of this.#machines) await machine.kill();
    rmSync(this.directory, { recursive: true });
  }
}

export interface Finished {
  /** Of both outputs. */
  readonly output: string;
  readonly code: number;
  readonly signal: number;
  readonly oom: boolean;
}

export async function exec(
  client: GuestClient,
  script: string,
  start: MessageInitShape<typeof ExecStartSchema> = {},
): Promise<Finished> {
  async function* requests() {
    const value = { argv: ["/bin/sh", "-c", script], ...start };
    yield create(ExecRequestSchema, { request: { case: "start", value } });
    if (start.pty === undefined)
      yield create(ExecRequestSchema, { request: { case: "closeStdin", value: {} } });
  }
  const parts: Uint8Array[] = [];
  for await (const { response } of client.exec(requests())) {
    if (response.case === "stdout" || response.case === "stderr") parts.push(response.value);
    if (response.case !== "exited") continue;
    const { code, signal, oom } = response.value;
    return { output: Buffer.concat(parts).toString(), code, signal, oom };
  }
  throw new Error("no exit was reported");
}
