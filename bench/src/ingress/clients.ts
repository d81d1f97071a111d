/** What asks: wrk for requests, openssl for handshakes, curl for bytes. All have the core that no proxy has. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface Turn {
  /** Requests or handshakes a second, or MB a second. */
  readonly rate: number;
  /** Of processor of the proxy, for each request, handshake or MB. */
  readonly cpuUs: number;
  readonly p99Ms: number;
}

export interface Asked {
  /** A file in place of /etc/hosts, for names that only these clients have to know. */
  readonly hostsPath: string;
  readonly cpu: number;
  readonly seconds: number;
  readonly pids: readonly number[];
}

const clockTicks = 100;
/** In a mount namespace of its own, so that the host's file stays as it is. */
const withHosts = (path: string): string[] => [
  ...["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', path],
];
const connections = 32;

export async function requests(url: string, asked: Asked): Promise<Turn> {
  const { cpu, seconds, pids, hostsPath } = asked;
  const wrk = ["wrk", "-t1", `-c${connections}`, `-d${seconds}s`, "--latency", url];
  const before = cpuUs(pids);
  const { stdout } = await run("taskset", ["-c", String(cpu), ...withHosts(hostsPath), ...wrk], {
    timeout: (seconds + 60) * 1_000,
  });
  const used = cpuUs(pids) - before;
  const done = Number(/(\d+) requests in/.exec(stdout)?.[1]);
  const failed = /Non-2xx or 3xx responses: (\d+)|Socket errors: (.+)/.exec(stdout);
  if (failed !== null || !(done > 0)) throw new Error(`${url}: ${stdout}`);
  return {
    rate: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]),
    p99Ms: milliseconds(/99%\s+([\d.]+\w+)/.exec(stdout)?.[1] ?? ""),
    cpuUs: used / done,
  };
}

/** Each with a new key exchange and a certificate; two clients at a time. */
export async function handshakes(address: string, { cpu, seconds, pids }: Asked): Promise<Turn> {
  const from = performance.now();
  const before = cpuUs(pids);
  const client = ["openssl", "s_time", "-new", "-time", String(seconds), "-connect", address];
  const both = await Promise.all(
    [1, 2].map(() =>
      run("taskset", ["-c", String(cpu), ...client], {
        timeout: (seconds + 60) * 1_000,
        maxBuffer: 64 << 20,
      }),
    ),
  );
  const tookMs = performance.now() - from;
  const used = cpuUs(pids) - before;
  const done = both.reduce(
    (sum, { stdout }) => sum + Number(/(\d+) connections in \d+ real/.exec(stdout)?.[1]),
    0,
  );
  if (!(done > 0)) throw new Error(both.map(({ stdout, stderr }) => stdout + stderr).join("\n"));
  return { rate: (done * 1_000) / tookMs, cpuUs: used / done, p99Ms: Number.NaN };
}

/** As much of one long answer as comes in the time. */
export async function bytes(url: string, { cpu, seconds, pids }: Asked): Promise<Turn> {
  const before = cpuUs(pids);
  const curl = [
    "curl",
    "-s",
    "-o",
    "/dev/null",
    "-m",
    String(seconds),
    "-w",
    "%{size_download} %{time_total}",
    url,
  ];
  // It ends with an error when the time is over, which is how it is meant to end.
  const { stdout } = await run("taskset", ["-c", String(cpu), ...curl], {
    timeout: (seconds + 60) * 1_000,
  }).catch((error: { readonly stdout?: string; readonly code?: unknown }) => {
    if (error.code !== 28) throw error;
    return { stdout: error.stdout ?? "" };
  });
  const used = cpuUs(pids) - before;
  const [size = 0, took = 0] = stdout.split(" ").map(Number);
  if (!(size > 0)) throw new Error(`${url}: nothing came`);
  return { rate: size / 1e6 / took, cpuUs: used / (size / 1e6), p99Ms: Number.NaN };
}

function milliseconds(text: string): number {
  const [, value, unit = ""] = /^([\d.]+)(us|ms|s|m)$/.exec(text) ?? [];
  return Number(value) * ({ us: 0.001, ms: 1, s: 1_000, m: 60_000 }[unit] ?? Number.NaN);
}

/** User and system time; in ticks of a hundredth of a second, so only over seconds of use. */
function cpuUs(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    return sum + ((Number(fields[11]) + Number(fields[12])) * 1e6) / clockTicks;
  }, 0);
}

export function residentMb(pids: readonly number[]): number {
  const kib = pids.reduce(
    (sum, pid) => sum + Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]),
    0,
  );
  return Math.round((kib * 1024) / 1e5) / 10;
}
