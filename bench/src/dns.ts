/**
 * Private names beside knot and dnsmasq serving the same names: queries per second as dnsperf sees them, p99 at a rate
 * that all of them bear, and how long after its write a fact is in the answer.
 *
 * Each server has the last core and dnsperf the first, and they take turns within one run, so that what else the host
 * does falls on all. dnsperf itself is what is full before knot is; `cpu_us_per_query` says what a query costs the
 * server, whoever is the bottleneck.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type DnsFixture, startDns } from "@hearth/dns";
import { freePort, until } from "@hearth/testkit";
import { medianOf } from "./median.ts";

const run = promisify(execFile);
const names = 200;
const seconds = 4;
const steadyRate = 10_000;
const visibleSamples = 200;
const network = 7;
const clockTicks = 100;

interface Server {
  readonly pid: number;
  readonly port: number;
}

interface Turn {
  readonly qps: number;
  readonly cpuUs: number;
  readonly p99Ms: number;
}

export async function measureDns(runs: number): Promise<Record<string, unknown>> {
  const dir = await mkdtemp(join(tmpdir(), "hearth-bench-dns-"));
  const children: ChildProcess[] = [];
  await using dns = await startDns();
  try {
    const addresses: string[] = [];
    for (let at = 1; at <= names; at += 1)
      addresses.push(await dns.machine({ app: `app${at}`, machine: 1 + at, network }));
    await dns.short(dns.address, [`app${names}.internal`, "AAAA"], 1);
    await writeFile(join(dir, "queries"), addresses.map((_, at) => `app${at + 1}.internal AAAA\n`).join(""));
    const servers: Record<string, Server> = {
      knot: await startKnot(dir, dns.address, addresses, children),
      dnsmasq: await startDnsmasq(dir, dns.address, addresses, children),
      hearth: { pid: dns.process.pid ?? 0, port: dns.port },
    };
    for (const { pid } of Object.values(servers))
      execFileSync("taskset", ["-a", "-p", "-c", String(availableParallelism() - 1), String(pid)]);
    const turns: Record<string, Turn[]> = { knot: [], dnsmasq: [], hearth: [] };
    for (let turn = 0; turn < Math.min(runs, 5); turn += 1)
      for (const [name, server] of Object.entries(servers))
        turns[name]?.push(await measure(server, dns.address, join(dir, "queries")));
    const median = (name: string, of: (turn: Turn) => number): number =>
      medianOf((turns[name] ?? []).map(of));
    const all = (of: (turn: Turn) => number) =>
      Object.fromEntries(Object.keys(servers).map((name) => [name, median(name, of)]));
    const ratio = (other: string): number =>
      medianOf(
        (turns.hearth ?? []).map(({ qps }, at) => qps / (turns[other]?.[at]?.qps ?? Number.NaN)),
        2,
      );
    return {
      ratio_authoritative: ratio("knot"),
      ratio_dnsmasq: ratio("dnsmasq"),
      ...(await measureVisible(dns)),
      queries_per_second: all(({ qps }) => qps),
      cpu_us_per_query: all(({ cpuUs }) => cpuUs),
      [`p99_ms_at_${steadyRate}_per_second`]: all(({ p99Ms }) => p99Ms),
      turns: turns.hearth?.length,
    };
  } finally {
    for (const child of children) {
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    }
    await rm(dir, { recursive: true, force: true });
  }
}

async function measure({ pid, port }: Server, address: string, queries: string): Promise<Turn> {
  const client = [
    "-c",
    "0",
    "dnsperf",
    "-s",
    address,
    "-p",
    String(port),
    "-d",
    queries,
    "-l",
    String(seconds),
  ];
  const options = { maxBuffer: 64 << 20, timeout: 60_000 };
  const before = await cpuTicks(pid);
  const { stdout } = await run("taskset", [...client, "-c", "4", "-q", "100"], options);
  const ticks = (await cpuTicks(pid)) - before;
  const read = (pattern: RegExp): number => Number(pattern.exec(stdout)?.[1]);
  const steady = await run("taskset", [...client, "-Q", String(steadyRate), "-v"], options);
  const latencies = [...steady.stdout.matchAll(/^> NOERROR .* (\d+\.\d+)$/gm)].map(([, one]) => Number(one));
  if (latencies.length < steadyRate) throw new Error(`only ${latencies.length} answers: ${stdout}`);
  return {
    qps: read(/Queries per second:\s+([\d.]+)/),
    cpuUs: (ticks * 1e6) / clockTicks / read(/Queries completed:\s+(\d+)/),
    p99Ms: (latencies.sort((a, b) => a - b)[Math.floor(latencies.length * 0.99)] ?? Number.NaN) * 1_000,
  };
}

async function cpuTicks(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1]?.split(" ") ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

/** From the call that writes the fact to the first answer that shows it; the answer is asked for without a pause. */
async function measureVisible(dns: DnsFixture): Promise<Record<string, number>> {
  const socket = createSocket("udp6");
  socket.connect(dns.port, dns.address);
  await once(socket, "connect");
  const question = Buffer.from(
    "\x07\x07\x01\0\0\x01\0\0\0\0\0\0\x07visible\x08internal\0\0\x1c\0\x01",
    "latin1",
  );
  const samples: number[] = [];
  try {
    for (let sample = 0; sample < visibleSamples; sample += 1) {
      const state = sample % 2 === 0 ? "started" : "stopped";
      const from = performance.now();
      const written = dns.machine({ app: "visible", machine: 5_000, network, state });
      for (;;) {
        const answered = once(socket, "message", { signal: AbortSignal.timeout(5_000) });
        socket.send(question);
        const [answer] = (await answered) as [Buffer];
        if (answer.readUInt16BE(6) > 0 === (state === "started")) break;
      }
      samples.push(performance.now() - from);
      await written;
    }
  } finally {
    socket.close();
  }
  samples.sort((a, b) => a - b);
  const at = (part: number): number => samples[Math.floor(samples.length * part)] ?? Number.NaN;
  return { visible_p99_ms: at(0.99), visible_median_ms: at(0.5) };
}

async function startKnot(
  dir: string,
  address: string,
  addresses: readonly string[],
  children: ChildProcess[],
): Promise<Server> {
  const port = await freePort();
  await mkdir(join(dir, "knot"));
  const soa = "$ORIGIN internal.\n@ 5 SOA ns host 1 60 60 60 5\n@ 5 NS ns\n";
  const ns = `ns 5 AAAA ${address}\n`;
  const records = addresses.map((one, at) => `app${at + 1} 5 AAAA ${one}\n`);
  await writeFile(join(dir, "zone"), [soa, ns, ...records].join(""));
  const config = `server:
    listen: ${address}@${port}
    rundir: ${dir}/knot
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: ${dir}/knot
log:
  - target: stderr
    any: warning
zone:
  - domain: internal
    file: ${dir}/zone
`;
  await writeFile(join(dir, "knot.conf"), config);
  return await startServer("knotd", ["-c", join(dir, "knot.conf")], { address, port, children });
}

async function startDnsmasq(
  dir: string,
  address: string,
  addresses: readonly string[],
  children: ChildProcess[],
): Promise<Server> {
  const port = await freePort();
  await writeFile(join(dir, "hosts"), addresses.map((one, at) => `${one} app${at + 1}.internal\n`).join(""));
  const args = [
    ...["-k", "-C", "/dev/null", "-p", String(port), `--listen-address=${address}`, "--bind-interfaces"],
    ...["-H", join(dir, "hosts"), "--no-hosts", "--no-resolv", "--local-ttl=5", "--user=root"],
    `--pid-file=${join(dir, "dnsmasq.pid")}`,
  ];
  return await startServer("dnsmasq", args, { address, port, children });
}

async function startServer(
  program: string,
  args: readonly string[],
  where: { readonly address: string; readonly port: number; readonly children: ChildProcess[] },
): Promise<Server> {
  const { address, port, children } = where;
  const child = spawn(program, args, { stdio: "ignore" });
  children.push(child);
  await until(`${program} answers`, 10_000, async () => {
    const asked = [
      "+short",
      "+tries=1",
      "+time=1",
      `@${address}`,
      "-p",
      String(port),
      "app1.internal",
      "AAAA",
    ];
    const { stdout } = await run("dig", asked).catch(() => ({ stdout: "" }));
    return /^fd/.test(stdout) || undefined;
  });
  return { pid: child.pid ?? 0, port };
}
