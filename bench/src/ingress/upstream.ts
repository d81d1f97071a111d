/** nginx in a network namespace, as the one upstream of all proxies: what answers is the same, and is never the limit. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { leaveNothing } from "@hearth/process";
import { until } from "@hearth/testkit";

const run = promisify(execFile);
const ip = (line: string): Promise<unknown> => run("ip", line.split(" "));
const subnet = "fd6e:6368:6d61:726b";

export interface Upstream extends AsyncDisposable {
  readonly address: string;
  /** HTTP with `/small` and `/large`, and one long stream of bytes at `/bulk`. */
  readonly port: number;
  /** The same, whose answers have another status: for what changes a route. */
  readonly otherPort: number;
}

export const smallBytes = 64;
export const largeBytes = 64 * 1024;
export const bulkBytes = 4 * 1024 ** 3;

/** @param cpu of the machine, for its one worker */
export async function startUpstream(dir: string, cpu: number): Promise<Upstream> {
  const name = `hbu${process.pid}`;
  const [outer, inner] = [`${name}o`, `${name}i`];
  const address = `${subnet}::2`;
  const [port, otherPort] = [8080, 8081];
  let child: ChildProcess | undefined;
  const undo = async (): Promise<void> => {
    if (child !== undefined && child.exitCode === null) {
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await ended;
    }
    await ip(`netns del ${name}`).catch(() => undefined);
    await ip(`link del ${outer}`).catch(() => undefined);
  };
  const left = leaveNothing(undo);
  const upstream: Upstream = {
    ...{ address, port, otherPort },
    async [Symbol.asyncDispose]() {
      await undo();
      left[Symbol.dispose]();
    },
  };
  try {
    await ip(`netns add ${name}`);
    await ip(`link add ${outer} type veth peer name ${inner} netns ${name}`);
    for (const line of [
      `link set ${outer} up`,
      `-6 addr add ${subnet}::1/64 dev ${outer} nodad`,
      `-n ${name} link set lo up`,
      `-n ${name} link set ${inner} up`,
      `-n ${name} -6 addr add ${address}/64 dev ${inner} nodad`,
    ])
      await ip(line);
    const root = join(dir, "files");
    await mkdir(root);
    await writeFile(join(root, "large"), "x".repeat(largeBytes));
    // It has a length and no blocks, so that it is read from no disk.
    await writeFile(join(root, "bulk"), "");
    await truncate(join(root, "bulk"), bulkBytes);
    await writeFile(join(dir, "upstream.conf"), configOf({ dir, root, address, port, otherPort }));
    const nginx = ["nginx", "-e", join(dir, "upstream.log"), "-c", join(dir, "upstream.conf")];
    const args = ["netns", "exec", name, "taskset", "-c", String(cpu), ...nginx];
    child = spawn("ip", args, { stdio: ["ignore", "ignore", "inherit"] });
    await until("the upstream answers", 10_000, async () => {
      const asked = await run("curl", ["-s", "-m", "2", `http://[${address}]:${port}/small`]).catch(
        () => undefined,
      );
      return asked?.stdout.length === smallBytes || undefined;
    });
    return upstream;
  } catch (error) {
    await upstream[Symbol.asyncDispose]();
    throw error;
  }
}

interface Config {
  readonly dir: string;
  readonly root: string;
  readonly address: string;
  readonly port: number;
  readonly otherPort: number;
}

const configOf = ({ dir, root, address, port, otherPort }: Config): string => `daemon off;
user root;
worker_processes 1;
pid ${dir}/upstream.pid;
worker_rlimit_nofile 15000;
events { worker_connections 14000; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  sendfile on;
  tcp_nopush on;
  ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${dir}/upstream-${kind};`).join("\n  ")}
  server {
    listen [${address}]:${port} backlog=4096;
    root ${root};
    location = /small { return 200 "${"s".repeat(smallBytes)}"; }
  }
  server {
    listen [${address}]:${otherPort} backlog=4096;
    location / { return 203 "other"; }
  }
}
`;
