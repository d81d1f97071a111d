/**
 * The real service process over a real nats-server, with an address of its own on this host's loopback for the
 * resolver and for each guest that asks; all of it goes with the fixture.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import { type Bus, connectBus, FactStore, NatsServer, type NodeConfig } from "@hearth/cluster";
import {
  type ClusterPrefix,
  formatClusterPrefix,
  formatMachineAddress,
  newClusterPrefix,
  resolverAddress,
} from "@hearth/network";
import { freePort, until } from "@hearth/testkit";
import type { DatagramWay } from "../datagrams/datagrams.ts";
import { nativePath } from "./datagram-ways.ts";
import { type MachineWish, machineFact } from "./machine-fact.ts";

const limitMs = 20_000;
const run = promisify(execFile);
const main = resolve(import.meta.dirname, "../main.ts");
const path = `${process.env.PATH}:/usr/sbin:/sbin`;
const host = 1;

export const ip = (...args: string[]): string =>
  execFileSync("ip", args, { encoding: "utf8", env: { ...process.env, PATH: path } });

export interface DnsFixture extends AsyncDisposable {
  readonly prefix: ClusterPrefix;
  readonly address: string;
  readonly port: number;
  readonly facts: FactStore;
  readonly nats: NatsServer;
  /** The process that answers now. */
  readonly process: ChildProcess;
  /** A guest's address of this host, and on it, so that something here can ask from there. */
  guest(network: number, machine: number): string;
  /** Says that there is such a machine, and returns its address. */
  machine(wish: MachineWish): Promise<string>;
  /** The real dig, asking once from this address; its whole answer as text. */
  dig(from: string, ...args: string[]): Promise<string>;
  /** Resolves with what `dig +short` says, sorted, once it is so many lines, or at once when `lines` is absent. */
  short(from: string, args: readonly string[], lines?: number): Promise<string[]>;
  http(path: string): Promise<string>;
  startService(): Promise<void>;
  stopService(signal?: NodeJS.Signals): Promise<void>;
}

export async function startDns(
  options: { readonly upstreams?: readonly string[]; readonly way?: DatagramWay["way"] } = {},
): Promise<DnsFixture> {
  const dir = await mkdtemp(join(tmpdir(), "hearth-dns-"));
  const prefix = newClusterPrefix(randomBytes);
  const address = resolverAddress(prefix);
  const port = await freePort();
  const login = { user: "test", pass: "test" };
  const nats = new NatsServer({ dir: join(dir, "nats"), port: await freePort(), ...login });
  await mkdir(join(dir, "nats"));
  await mkdir(join(dir, "run"));
  await nats.start();
  const bus: Bus = await connectBus({ servers: nats.url, ...login, reconnectWaitMs: 50 });
  const facts = new FactStore({ bus });
  const config: NodeConfig = {
    ...{ region: "here", node_id: "n1", host_number: host, prefix: formatClusterPrefix(prefix) },
    ...{ data_dir: join(dir, "data"), run_dir: join(dir, "run") },
    nats: { servers: [nats.url], ...login },
    api: { host: "127.0.0.1", port: 0 },
    assets: { kernel: "", initrd: "", ...(options.way === "single" ? {} : { datagrams: nativePath }) },
    ...{ accelerator: "tcg", capacity: { cpus: 1, memory_mb: 1 }, nameservers: [address], warnings: [] },
    dns: { port, upstreams: [...(options.upstreams ?? [])] },
  };
  await writeFile(join(dir, "node.json"), JSON.stringify(config));
  const added = new Set<string>();
  const addAddress = (one: string): string => {
    if (!added.has(one)) ip("-6", "addr", "add", `${one}/128`, "dev", "lo", "nodad");
    added.add(one);
    return one;
  };
  addAddress(address);
  let child: ChildProcess | undefined;
  const fixture: DnsFixture = {
    ...{ prefix, address, port, facts, nats },
    get process() {
      if (child === undefined) throw new Error("the service does not run");
      return child;
    },
    guest: (network, machine) => addAddress(formatMachineAddress({ prefix, host, network, machine })),
    async machine(wish) {
      const { key, fact } = machineFact(prefix, wish);
      await facts.publish(key, fact);
      return fact.record.private_ip;
    },
    async dig(from, ...args) {
      const common = ["-b", from, `@${address}`, "-p", String(port), "+tries=1", "+time=5"];
      const done = await run("dig", [...common, ...args], { timeout: limitMs }).catch(
        (error: { stdout?: string }) => ({ stdout: error.stdout ?? "" }),
      );
      return done.stdout;
    },
    async short(from, args, lines) {
      return await until(`${lines} lines for ${args.join(" ")}`, limitMs, async () => {
        const answer = await fixture.dig(from, "+short", ...args);
        const found = answer.split("\n").filter((line) => line !== "");
        return lines === undefined || found.length === lines ? found.sort() : undefined;
      });
    },
    async http(wanted) {
      const asked = request({ socketPath: join(dir, "run", "dns.sock"), path: wanted }).end();
      const [answer] = await once(asked, "response");
      return await text(answer);
    },
    async startService() {
      child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", main], {
        env: { PATH: path, HEARTH_NODE_CONFIG: join(dir, "node.json") },
        stdio: ["ignore", "inherit", "pipe"],
      });
      let log = "";
      child.stderr?.on("data", (chunk: Buffer) => {
        log += chunk.toString();
      });
      await until("the service serves", limitMs, async () => {
        if (child?.exitCode !== null) throw new Error(`the service ended: ${log}`);
        return log.includes('"serving"') || undefined;
      });
    },
    async stopService(signal = "SIGTERM") {
      const ending = child;
      child = undefined;
      if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return;
      const ended = once(ending, "exit");
      ending.kill(signal);
      await ended;
    },
    async [Symbol.asyncDispose]() {
      await fixture.stopService("SIGKILL");
      await bus.close();
      await nats.stop();
      for (const one of added) ip("-6", "addr", "del", `${one}/128`, "dev", "lo");
      await rm(dir, { recursive: true, force: true });
    },
  };
  try {
    await fixture.startService();
  } catch (error) {
    await fixture[Symbol.asyncDispose]();
    throw error;
  }
  return fixture;
}
