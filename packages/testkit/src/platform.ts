/**
 * A real platform of its own on this host: fresh directories, free ports, the demo image. What it leaves
 * behind after `down` is what the leak checks look at, so it removes nothing itself but its directories.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { firewallTable, parseClusterPrefix, resolverAddress, slotPrefix } from "@hearth/network";
import { leaveNothing } from "@hearth/process";
import { freePort } from "./free-port.ts";

export const repositoryRoot: string = resolve(import.meta.dirname, "../../..");

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Platform {
  readonly apiUrl: string;
  readonly token: string;
  readonly dataDir: string;
  readonly runDir: string;
  readonly nodeId: string;
  /** Of the front door. */
  readonly httpPort: number;
  readonly httpsPort: number;
  /** What of this platform is on the host now: processes, links, firewall tables, mounts, loop devices. */
  hostResources(): string[];
  /** The processes of this platform whose command line has this text. */
  pids(text: string): number[];
  /** Runs the real command line and waits for its end. */
  hearth(args: readonly string[], input?: string): Promise<Finished>;
  /** One call of the public API; the parsed body, whatever the status. */
  call(method: string, path: string, body?: unknown): Promise<{ status: number; body: Json }>;
  down(): Promise<Finished>;
}

// biome-ignore lint/suspicious/noExplicitAny: answers of the public API are asserted field by field
export type Json = any;

const commandLimitMs = 240_000;

export function finish(child: ChildProcess, limitMs = commandLimitMs): Promise<Finished> {
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`not finished after ${limitMs} ms: ${stdout}${stderr}`));
    }, limitMs);
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code, stdout, stderr });
    });
  });
}

const lines = (command: string, args: string[]): string[] =>
  execFileSync(command, args, {
    encoding: "utf8",
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  })
    .split("\n")
    .filter((line) => line !== "");

/** Other platforms and tests may run on this host, so a process counts by the directories that it names. */
function processesOf(directory: string): { pid: number; command: string }[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      try {
        const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ");
        const environment = readFileSync(`/proc/${name}/environ`, "utf8");
        return `${command}${environment}`.includes(directory) ? [{ pid: Number(name), command }] : [];
      } catch {
        // It ended while it was looked at.
        return [];
      }
    });
}

/**
 * What a node has on this host now, a line each: processes that name its directory, links, namespaces, firewall
 * tables, loop devices and mounts. Empty after `hearth down`.
 * @param directory absolute; that of the node's data and run directories
 */
export function hostResources(directory: string, nodeId: string): string[] {
  const links = lines("ip", ["-o", "link"]).filter((line) => line.includes(` ${slotPrefix(nodeId)}`));
  const tables = lines("nft", ["list", "tables"]).filter((line) => line.endsWith(firewallTable(nodeId)));
  const loops = lines("losetup", ["-a"]).filter((line) => line.includes(directory));
  const namespaces = lines("ip", ["netns"]).filter((line) => line.startsWith(slotPrefix(nodeId)));
  const mounts = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .filter((line) => line.includes(directory));
  const resolver = resolverOf(join(directory, "data"));
  const addresses =
    resolver === undefined
      ? []
      : lines("ip", ["-o", "addr", "show", "dev", "lo"]).filter((line) => line.includes(` ${resolver}/`));
  const processes = processesOf(directory).map(({ command }) => command);
  return [...processes, ...links, ...namespaces, ...tables, ...loops, ...mounts, ...addresses];
}

/** Of a node that has begun to be one; what it is stays in its data directory. */
function resolverOf(dataDir: string): string | undefined {
  try {
    const { prefix } = JSON.parse(readFileSync(join(dataDir, "node.json"), "utf8")) as { prefix: string };
    return resolverAddress(parseClusterPrefix(prefix));
  } catch {
    return undefined;
  }
}

export interface PlatformOptions {
  /** Gives the data directory a file system of its own of this size, which can then be full. */
  readonly dataMib?: number;
}

export async function startPlatform({ dataMib }: PlatformOptions = {}): Promise<Platform> {
  const directory = await mkdtemp(join(tmpdir(), "hearth-"));
  const dataDir = join(directory, "data");
  const runDir = join(directory, "run");
  const removeDirectory = async (): Promise<void> => {
    if (dataMib !== undefined) execFileSync("umount", [dataDir]);
    await rm(directory, { recursive: true, force: true });
  };
  if (dataMib !== undefined) {
    await mkdir(dataDir);
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${dataMib}m,mode=711`, "hearth-test", dataDir]);
  }
  const [port, httpPort, httpsPort] = [await freePort(), await freePort(), await freePort()];
  const environment = {
    ...process.env,
    PATH: `${process.env.PATH}:/usr/sbin:/sbin`,
    HEARTH_DATA_DIR: dataDir,
    HEARTH_RUN_DIR: runDir,
    HEARTH_API_PORT: String(port),
    HEARTH_HTTP_PORT: String(httpPort),
    HEARTH_HTTPS_PORT: String(httpsPort),
    HEARTH_SSH_PORT: String(await freePort()),
  };
  const hearth = (args: readonly string[], input = ""): Promise<Finished> => {
    const child = spawn(join(repositoryRoot, "cli/bin/hearth"), args, { env: environment });
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
    return finish(child);
  };
  // What has come up runs on without its test, and would outlive its directories.
  const undo = async (): Promise<void> => {
    await hearth(["down", "--force"]);
    await removeDirectory();
  };
  const early = leaveNothing(undo);
  const apiUrl = `http://127.0.0.1:${port}`;
  const comeUp = async (): Promise<{ token: string; nodeId: string }> => {
    const up = await hearth(["up"]);
    if (up.code !== 0) throw new Error(`hearth up: ${up.stdout}${up.stderr}`);
    const token = (await readFile(join(dataDir, "token"), "utf8")).trim();
    const nodes = await fetch(`${apiUrl}/v1/nodes`, { headers: { authorization: `Bearer ${token}` } });
    const [node] = (await nodes.json()) as { node_id: string }[];
    if (node === undefined) throw new Error("the region has no node");
    return { token, nodeId: node.node_id };
  };
  const { token, nodeId } = await comeUp().catch(async (error: unknown) => {
    await undo();
    early[Symbol.dispose]();
    throw error;
  });
  return {
    httpPort,
    httpsPort,
    nodeId,
    hostResources: () => hostResources(directory, nodeId),
    pids: (text) =>
      processesOf(directory).flatMap(({ pid, command }) => (command.includes(text) ? [pid] : [])),
    apiUrl,
    token,
    dataDir,
    runDir,
    hearth,
    async call(method, path, body) {
      const answer = await fetch(`${apiUrl}${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
        signal: AbortSignal.timeout(90_000),
      });
      const text = await answer.text();
      return { status: answer.status, body: text === "" ? undefined : JSON.parse(text) };
    },
    async down() {
      const finished = await hearth(["down"]);
      const left = hostResources(directory, nodeId).filter(
        (line) => !line.startsWith(`hearth-test ${dataDir} `),
      );
      if (left.length > 0) throw new Error(`hearth down left behind: ${left.join("; ")}`);
      await removeDirectory();
      early[Symbol.dispose]();
      return finished;
    },
  };
}

export const demoImage = "demo:latest";

/** Makes the demo image, if that was not done yet, and gives it to the platform as `demoImage`. */
export async function importDemo(platform: Platform): Promise<void> {
  execFileSync("bash", ["scripts/demo-image.sh"], { cwd: repositoryRoot, stdio: "ignore" });
  const archive = join(repositoryRoot, ".hearth/demo/demo.tar");
  const imported = await platform.hearth(["images", "import", archive, "--name", demoImage]);
  if (imported.code !== 0) throw new Error(`hearth images import: ${imported.stderr}`);
}
