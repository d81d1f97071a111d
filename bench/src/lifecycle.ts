/**
 * What a machine costs over its virtual machine.
 *
 * bare:   QEMU started by hand with the same kernel, initrd, command line, memory and disks, until the guest agent
 *         answers. No API, no ledger, no network device.
 * create: POST of a machine whose image is cached, until the machine's worker says that its program runs.
 *
 * The two take turns in one run, so that a host whose speed drifts slows both. Each machine is gone before
 * the next begins. `steps` are the medians of the worker's own step journal.
 */
import { execFile } from "node:child_process";
import { copyFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { promisify } from "node:util";
import { connectGuest } from "@hearth/guest";
import { demoImage, importDemo, type Platform, repositoryRoot, startPlatform } from "@hearth/testkit";
import { QemuVmm } from "@hearth/vmm";
import { medianOf } from "./median.ts";

const run = promisify(execFile);
const memoryMib = 256;

async function bare(directory: string, rootfs: string, scratchTemplate: string): Promise<number> {
  const scratch = join(directory, "scratch.ext4");
  await run("cp", ["--sparse=always", "--reflink=auto", scratchTemplate, scratch]);
  const assets = join(repositoryRoot, ".hearth/assets");
  const vmm = new QemuVmm();
  const begun = performance.now();
  try {
    await vmm.start({
      id: "bare",
      runDir: join(directory, "bare"),
      kernel: join(assets, "vmlinux"),
      initrd: join(assets, "initrd.cpio"),
      cmdline: "",
      cpus: 1,
      memoryMib,
      disks: [
        { path: rootfs, readOnly: true },
        { path: scratch, readOnly: false },
      ],
      nics: [],
      consolePath: join(directory, "console"),
    });
    await using guest = await connectGuest(await vmm.channel(), { timeoutMs: 60_000, booting: true });
    await guest.client.hello({});
    return performance.now() - begun;
  } finally {
    await vmm.kill();
    await vmm[Symbol.asyncDispose]();
  }
}

async function create(platform: Platform): Promise<number> {
  const begun = performance.now();
  const made = await platform.call("POST", "/v1/apps/bench/machines", {
    config: { image: demoImage, guest: { cpus: 1, memory_mb: memoryMib, cpu_kind: "shared" } },
  });
  if (made.status !== 200) throw new Error(`create: ${JSON.stringify(made.body)}`);
  const path = `/v1/apps/bench/machines/${made.body.id}`;
  const started = await platform.call("GET", `${path}/wait?state=started&timeout=60`);
  const elapsed = performance.now() - begun;
  if (started.status !== 200) throw new Error(`wait: ${JSON.stringify(started.body)}`);
  await platform.call("DELETE", `${path}?force=true`);
  await platform.call("GET", `${path}/wait?state=destroyed&timeout=60`);
  return elapsed;
}

function stepMedians(platform: Platform): Record<string, number> {
  const database = new DatabaseSync(join(platform.dataDir, "worker/worker.db"), { readOnly: true });
  const rows = database
    .prepare(
      `SELECT steps.name, steps.ended_ms - steps.begun_ms AS ms FROM steps JOIN runs USING (run_id)
       WHERE runs.state = 'done' AND steps.state = 'done' AND runs.kind = 'machine-start'`,
    )
    .all();
  database.close();
  const names = [...new Set(rows.map((row) => String(row.name)))];
  return Object.fromEntries(
    names.map((name) => [
      name,
      medianOf(rows.filter((row) => row.name === name).map((row) => Number(row.ms))),
    ]),
  );
}

export async function measureLifecycle(runs: number): Promise<Record<string, unknown>> {
  const directory = await mkdtemp(join(tmpdir(), "hearth-bench-"));
  const platform = await startPlatform();
  try {
    await importDemo(platform);
    await platform.call("POST", "/v1/apps", { app_name: "bench", org_slug: "personal" });
    const rootfs = join(directory, "rootfs.squashfs");
    const { body } = await platform.call("GET", "/v1/images");
    await copyFile(body[0].rootfsPath, rootfs);
    const template = join(directory, "template.ext4");
    await run("mkfs.ext4", ["-q", "-F", template, "1G"], {
      env: { ...process.env, PATH: `${process.env.PATH}:/sbin` },
    });
    const bareMs: number[] = [];
    const createMs: number[] = [];
    await bare(directory, rootfs, template);
    await create(platform);
    for (let turn = 0; turn < runs; turn += 1) {
      bareMs.push(await bare(directory, rootfs, template));
      createMs.push(await create(platform));
    }
    const [bare_ms, create_ms] = [medianOf(bareMs), medianOf(createMs)];
    return {
      runs,
      bare_ms,
      create_ms,
      ratio: Math.round((create_ms / bare_ms) * 1000) / 1000,
      difference_ms: Math.round((create_ms - bare_ms) * 10) / 10,
      steps: stepMedians(platform),
    };
  } finally {
    await platform.down();
    await rm(directory, { recursive: true, force: true });
  }
}
