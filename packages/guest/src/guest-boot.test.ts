/** The agent as process 1 of a real machine: the platform's kernel, a busybox image and a scratch disk. */
import assert from "node:assert/strict";
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
import { after, before, suite, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { HearthError } from "@hearth/errors";
import { QemuVmm, type Vmm, type VmmSpec } from "@hearth/vmm";
import { connectGuest, type GuestClient, type GuestConnection } from "../mod.ts";
import { ExecRequestSchema } from "./gen/hearth/guest/v1/guest_pb.js";

const repository = join(import.meta.dirname, "../../..");
const target = "x86_64-unknown-linux-musl";
const busybox = "/bin/busybox";

const isRoot = process.getuid?.() === 0;
const mac = "02:00:00:00:09:03";
const made: string[] = [];
const taps = isRoot ? [`hg${process.pid}a`, `hg${process.pid}b`] : [];

/** Its own addresses for each process, so that runs beside one another do not answer each other's pings. */
const block = (process.pid % 16_384) * 8;
const v4 = (host: number): string =>
  `198.${18 + (block >> 16)}.${(block >> 8) & 255}.${(block & 255) + host}`;
const v6 = (host: number): string => `fd09:1:1:${((process.pid & 0x7fff) + 1).toString(16)}::${host}`;

const ip = (line: string): void => void execFileSync("ip", line.split(" "));

function makeTaps(): void {
  for (const tap of taps) {
    made.push(tap);
    ip(`tuntap add dev ${tap} mode tap`);
    ip(`link set ${tap} up`);
  }
  const [first] = taps;
  if (first === undefined) return;
  ip(`addr add ${v4(1)}/29 dev ${first}`);
  ip(`addr add ${v6(1)}/64 dev ${first} nodad`);
}

/** Why it cannot run here, or false. */
function missing(): string | false {
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

async function* requests(script: string) {
  yield create(ExecRequestSchema, { request: { case: "start", value: { argv: ["/bin/sh", "-c", script] } } });
  yield create(ExecRequestSchema, { request: { case: "closeStdin", value: {} } });
}

async function exec(client: GuestClient, script: string): Promise<{ stdout: string; code: number }> {
  const parts: Uint8Array[] = [];
  for await (const { response } of client.exec(requests(script))) {
    if (response.case === "stdout" || response.case === "stderr") parts.push(response.value);
    if (response.case === "exited")
      return { stdout: Buffer.concat(parts).toString(), code: response.value.code };
  }
  throw new Error("no exit was reported");
}

suite("a booted guest", { skip: missing(), timeout: 240_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), "hearth-boot-"));
  const vmm: Vmm = new QemuVmm();
  const started: Vmm[] = [vmm];
  let guest: GuestConnection;

  before(async () => {
    execFileSync("cargo", ["build", "--quiet", "--release", "--target", target], {
      cwd: join(repository, "guest-agent"),
      stdio: ["ignore", "ignore", "inherit"],
    });
    execFileSync("bash", [join(repository, "scripts/assets.sh")], { stdio: ["ignore", "ignore", "inherit"] });
    const assets = join(repository, ".hearth/assets");
    const spec: VmmSpec = {
      id: "boot",
      runDir: join(directory, "run"),
      kernel: join(assets, "vmlinux"),
      initrd: join(assets, "initrd.cpio"),
      cmdline: "",
      cpus: 1,
      memoryMib: 192,
      disks: [
        { path: makeImage(), readOnly: true },
        { path: makeScratch(), readOnly: false },
      ],
      nics: taps.slice(0, 1).map((tap) => ({ tap, mac })),
      consolePath: join(directory, "console"),
    };
    makeTaps();
    await vmm.start(spec);
    guest = await connectGuest(await vmm.channel(), { timeoutMs: 60_000 }).catch((error) => {
      throw new Error(`the guest's console: ${readFileSync(spec.consolePath, "utf8")}`, { cause: error });
    });
  });

  after(async () => {
    await guest?.[Symbol.asyncDispose]();
    for (const each of started) await each.kill();
    for (const tap of made) ip(`link del ${tap}`);
    rmSync(directory, { recursive: true });
  });

  function makeImage(): string {
    const tree = join(directory, "image");
    for (const name of ["bin", "etc", "tmp"]) mkdirSync(join(tree, name), { recursive: true });
    copyFileSync(busybox, join(tree, "bin/busybox"));
    for (const name of [
      "sh",
      "cat",
      "id",
      "hostname",
      "sleep",
      "head",
      "ip",
      "ping",
      "touch",
      "pwd",
      "mount",
      "ls",
    ])
      symlinkSync("busybox", join(tree, "bin", name));
    writeFileSync(join(tree, "etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n");
    const image = join(directory, "image.squashfs");
    execFileSync("mksquashfs", [tree, image, "-quiet", "-no-progress", "-all-root"], { stdio: "ignore" });
    return image;
  }

  function makeScratch(): string {
    const scratch = join(directory, "scratch.ext4");
    writeFileSync(scratch, "");
    truncateSync(scratch, 64 << 20);
    execFileSync("mkfs.ext4", ["-q", "-F", scratch]);
    return scratch;
  }

  test("has the agent as process 1 in the image's root", async () => {
    const hello = await guest.client.hello({});
    assert.equal(hello.init, true);
    const { stdout, code } = await exec(
      guest.client,
      "cat /proc/1/comm; ls /; echo written >/etc/new && cat /etc/new",
    );
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^(init|hearth-guest-ag)\nbin\ndev\netc\nproc\nrun\nsys\ntmp\nwritten\n$/);
  });

  test("takes its name and runs its main process as a user", async () => {
    await guest.client.configure({ hostname: "web-1", env: { COLOUR: "red" } });
    assert.equal((await exec(guest.client, "hostname; echo $COLOUR")).stdout, "web-1\nred\n");
    await guest.client.startMain({
      argv: ["/bin/sh", "-c", "id -u; pwd; exit 5"],
      user: "app",
      workdir: "/tmp",
    });
    let exited: unknown;
    for await (const { status } of guest.client.waitMain({}))
      if (status.case === "exited") exited = status.value.code;
    assert.equal(exited, 5);
    let output = "";
    for await (const { data } of guest.client.logs({})) output += Buffer.from(data).toString();
    assert.equal(output, "1000\n/tmp\n");
  });

  test("gets addresses and routes of both families, and gives up those of an earlier call", async (context) => {
    if (!isRoot) return context.skip("making a tap device needs root");
    await guest.client.configure({ addresses: [{ device: mac, cidr: `${v4(3)}/32` }] });
    await guest.client.configure({
      addresses: [`${v4(2)}/32`, `${v6(2)}/64`].map((cidr) => ({ device: mac, cidr })),
      routes: [v4(1), v6(1)].map((gateway) => ({ device: mac, gateway })),
      nameservers: [v6(53)],
    });
    const { stdout } = await exec(
      guest.client,
      `ip -o addr; ip route; ip -6 route; cat /etc/resolv.conf; ping -c1 ${v4(1)}; ping -c1 ${v6(1)}`,
    );
    for (const text of [
      "inet 127.0.0.1/8",
      `inet ${v4(2)}/32`,
      `inet6 ${v6(2)}/64`,
      `default via ${v4(1)} dev eth0`,
      `default via ${v6(1)} dev eth0`,
      `nameserver ${v6(53)}`,
    ])
      assert.ok(stdout.includes(text), `${text} in ${stdout}`);
    assert.ok(!stdout.includes(`inet ${v4(3)}/`), stdout);
    assert.equal(stdout.split("1 packets received").length, 3, stdout);
  });

  test("reaps the orphans that its processes leave", async () => {
    await exec(guest.client, "(sleep 0.1 &) ; true");
    await exec(guest.client, "sleep 0.5");
    const { processes } = await guest.client.listProcesses({});
    assert.deepEqual(
      processes.filter(({ state }) => state === "Z"),
      [],
    );
  });

  test("answers a new host after the old one went away in the middle of a transfer", async () => {
    const stuck = exec(guest.client, "head -c 50000000 /dev/zero").catch(() => "broken");
    await guest.client.hello({});
    guest = await connectGuest(await vmm.channel(), { timeoutMs: 30_000 });
    assert.equal((await exec(guest.client, "echo again")).stdout, "again\n");
    assert.equal(await stuck, "broken");
  });

  test("answers a new host after it was restored in the middle of a conversation", async (context) => {
    const dir = join(directory, "snapshot");
    await guest.client.hello({});
    const scratch = join(directory, "scratch-clone.ext4");
    try {
      await vmm.snapshot(dir);
      copyFileSync(join(directory, "scratch.ext4"), scratch);
    } catch (error) {
      if (!(error instanceof HearthError) || error.code !== "vmm_unsupported") throw error;
      return context.skip("the driver takes no snapshots yet");
    } finally {
      // Whatever fails from here on: a machine left paused would let the next test wait for ever.
      await vmm.resume();
    }
    const clone = new QemuVmm();
    started.push(clone);
    await clone.restore(dir, {
      id: "clone",
      runDir: join(directory, "run-clone"),
      consolePath: join(directory, "console-clone"),
      nics: taps.slice(1).map((tap) => ({ tap, mac })),
      disks: [
        { path: join(directory, "image.squashfs"), readOnly: true },
        { path: scratch, readOnly: false },
      ],
    });
    await using second = await connectGuest(await clone.channel(), { timeoutMs: 30_000 });
    assert.equal((await exec(second.client, "cat /etc/new")).stdout, "written\n");
  });

  test("switches off when told", async () => {
    const exit = new Promise((resolve) => vmm.onExit(resolve));
    const late = AbortSignal.timeout(20_000);
    const limit = new Promise((_, reject) => late.addEventListener("abort", () => reject(late.reason)));
    await guest.client.shutdown({ graceMs: 1_000 });
    assert.deepEqual(await Promise.race([exit, limit]), { reason: "guest", code: 0, signal: null });
  });
});
