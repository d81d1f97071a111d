/** The way of an image, with nothing between: made by umoci, merged by the store, booted by QEMU, asked by the agent. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { connectGuest, type GuestClient } from "@hearth/guest";
import { ImageStore } from "@hearth/images";
import { QemuVmm } from "@hearth/vmm";
import { repositoryRoot } from "../repository/source-files.ts";

const run = promisify(execFile);
const assets = join(repositoryRoot, ".hearth/assets");

/** An OCI layout of one layer that holds busybox and nothing else. */
async function makeImage(directory: string): Promise<string> {
  const layout = join(directory, "layout");
  const bundle = join(directory, "bundle");
  await run("umoci", ["init", "--layout", layout]);
  await run("umoci", ["new", "--image", `${layout}:box`]);
  await run("umoci", ["unpack", "--image", `${layout}:box`, bundle]);
  await mkdir(join(bundle, "rootfs/bin"), { recursive: true });
  await mkdir(join(bundle, "rootfs/etc"), { recursive: true });
  for (const name of ["busybox", "sh", "cat"])
    await copyFile("/bin/busybox", join(bundle, "rootfs/bin", name));
  await run("umoci", ["repack", "--image", `${layout}:box`, bundle]);
  return layout;
}

async function* once<T>(message: T): AsyncGenerator<T> {
  yield message;
}

async function exec(client: GuestClient, argv: string[]) {
  let stdout = "";
  let exit: { code: number; signal: number } | undefined;
  const start = { request: { case: "start" as const, value: { argv } } };
  for await (const { response } of client.exec(once(start), { timeoutMs: 30_000 })) {
    if (response.case === "stdout") stdout += Buffer.from(response.value).toString();
    if (response.case === "exited") exit = { code: response.value.code, signal: response.value.signal };
  }
  return { stdout, exit };
}

test("an image becomes a machine whose agent runs its programs", { timeout: 120_000 }, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "hearth-e2e-"));
  const vmm = new QemuVmm();
  t.after(async () => {
    await vmm.kill().catch(() => undefined);
    await vmm[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });
  const store = new ImageStore({ directory: join(directory, "images") });
  await store.start();
  const signal = AbortSignal.timeout(60_000);
  const image = await store.import(await makeImage(directory), "local/box:1", { signal });
  const scratch = join(directory, "scratch.ext4");
  await run("mkfs.ext4", ["-q", "-F", scratch, "64M"], {
    env: { ...process.env, PATH: `${process.env.PATH}:/sbin` },
  });

  const consolePath = join(directory, "console");
  await vmm.start({
    id: "e2e",
    runDir: join(directory, "run"),
    kernel: join(assets, "vmlinux"),
    initrd: join(assets, "initrd.cpio"),
    cmdline: "",
    cpus: 1,
    memoryMib: 256,
    disks: [
      { path: image.rootfsPath, readOnly: true },
      { path: scratch, readOnly: false },
    ],
    nics: [],
    consolePath,
  });
  try {
    await using guest = await connectGuest(await vmm.channel(), { timeoutMs: 60_000, booting: true });
    const hello = await guest.client.hello({});
    assert.equal(hello.init, true);
    assert.deepEqual(await exec(guest.client, ["/bin/sh", "-c", "echo hi; exit 7"]), {
      stdout: "hi\n",
      exit: { code: 7, signal: 0 },
    });
    const written = await exec(guest.client, ["/bin/sh", "-c", "echo kept >/etc/note; cat /etc/note"]);
    assert.equal(written.stdout, "kept\n");
    await guest.client.startMain({ argv: ["/bin/sh", "-c", "echo main; exit 3"] });
    for await (const { status } of guest.client.waitMain({}, { timeoutMs: 30_000 })) {
      if (status.case === "exited") assert.equal(status.value.code, 3);
    }
  } catch (thrown) {
    t.diagnostic(await readFile(consolePath, "utf8"));
    throw thrown;
  }
});
