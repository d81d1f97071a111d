/** What doctor looks at. Each check says what it found; none throws. */
import { execFile } from "node:child_process";
import { statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { HearthError } from "@hearth/errors";
import type { AgentStatus } from "@hearth/host-agent";
import type { Health, HearthClient } from "@hearth/sdk";
import { busFindings } from "./doctor-bus.ts";
import type { Finding } from "./doctor-finding.ts";
import type { Environment } from "./environment.ts";
import { explain } from "./failure.ts";
import { formatBytes } from "./output.ts";

export interface NodeFindings {
  readonly findings: readonly Finding[];
  readonly status: AgentStatus | undefined;
}

export async function checkNode(environment: Environment): Promise<NodeFindings> {
  const { status: askAgent } = await import("@hearth/host-agent");
  let status: AgentStatus | undefined;
  try {
    status = await askAgent();
  } catch (error) {
    const { message } = HearthError.from(error);
    const advice = `Its log is ${join(environment.dataDir, "logs/agent.log")}.`;
    return { findings: [{ name: "host-agent", level: "broken", message, advice }], status };
  }
  if (status === undefined) {
    const message = "Hearth does not run on this host.";
    const advice = "Start it with `hearth up`.";
    return { findings: [{ name: "host-agent", level: "broken", message, advice }], status };
  }
  return { findings: agentFindings(status), status };
}

function agentFindings(status: AgentStatus): Finding[] {
  const { accelerator, accelerator_reason, capacity, warnings, problems, services, data_dir } = status;
  const agent: Finding = {
    name: "host-agent",
    level: status.state === "ready" ? "ok" : "broken",
    message: `The host agent (pid ${status.pid}) is ${status.state}.`,
    ...(status.state === "ready" ? {} : { advice: `Its log is ${join(data_dir, "logs/agent.log")}.` }),
  };
  const ofServices = services.map(({ name, state, pid, restarts, last_exit }): Finding => {
    const log = join(data_dir, "logs", `${name}.log`);
    if (state !== "running")
      return {
        name,
        level: "broken",
        message: `The service ${name} is ${state}${last_exit === null ? "" : `; it last ended with ${last_exit}`}.`,
        advice: `Its log is ${log}.`,
      };
    const message = `The service ${name} runs (pid ${pid})`;
    if (restarts === 0) return { name, level: "ok", message: `${message}.` };
    const again = `${message} and was started again ${restarts} times; it last ended with ${last_exit}.`;
    return { name, level: "warning", message: again, advice: `Its log is ${log}.` };
  });
  return [
    agent,
    ...ofServices,
    ...busFindings(status.bus),
    ...problems.map((message): Finding => ({ name: "problem", level: "broken", message })),
    {
      name: "accelerator",
      level: accelerator === "kvm" ? "ok" : "warning",
      message: `Machines run under ${accelerator}. ${accelerator_reason}`,
      ...(accelerator === "kvm"
        ? {}
        : { advice: "Emulated machines are slow; use a host whose /dev/kvm boots guests for real work." }),
    },
    {
      name: "capacity",
      level: "ok",
      message: `Machines may use ${capacity.cpus} CPUs and ${capacity.memory_mb} MiB of memory.`,
    },
    ...warnings
      .filter((message) => accelerator === "kvm" || !message.startsWith("KVM "))
      .map((message): Finding => ({ name: "warning", level: "warning", message })),
  ];
}

export async function checkApi(
  environment: Environment,
  client: () => HearthClient,
): Promise<readonly Finding[]> {
  try {
    const health = await client().health();
    const findings: Finding[] = [
      health.status === "ok"
        ? { name: "api", level: "ok", message: `The API at ${environment.apiUrl} answers.` }
        : {
            name: "api",
            level: "broken",
            message: `The API at ${environment.apiUrl} is ${health.status ?? "not well"}: it has lost its bus.`,
            advice: "It comes back by itself when the bus does; look at the log of nats-server.",
          },
    ];
    findings.push(...restorationFindings(health));
    const nodes = await client().nodes();
    findings.push({ name: "token", level: "ok", message: "The API takes the token." });
    if (nodes.length === 0)
      findings.push({
        name: "nodes",
        level: "broken",
        message: "The API knows no node, so no machine can be placed.",
        advice: "Run `hearth up` on a host of this region.",
      });
    if (environment.isApiChosen)
      for (const { node_id, region, accelerator, free_memory_mb, machines } of nodes)
        findings.push({
          name: "nodes",
          level: "ok",
          message: `Node ${node_id} in ${region}: ${accelerator}, ${machines} machines, ${free_memory_mb} MiB free.`,
        });
    return findings;
  } catch (error) {
    const { message, code } = explain(error, environment);
    return [{ name: "api", level: "broken", message: `${message} (${code})` }];
  }
}

const shownMs = 24 * 3600_000;

/** What the bus lost and got back is over, but whoever runs it should look why. */
function restorationFindings({ restored_facts, restored_at_ms }: Health): Finding[] {
  const count = Number(restored_facts ?? 0);
  if (count === 0 || Date.now() - Number(restored_at_ms) > shownMs) return [];
  return [
    {
      name: "state",
      level: "warning",
      message: `The bus had lost facts; ${count} were put back from a replica at ${new Date(Number(restored_at_ms)).toISOString()}.`,
      advice:
        "Nothing more is to be done here; find out what happened to the JetStream store of nats-server.",
    },
  ];
}

const programs = [
  { name: "qemu-system-x86_64", args: ["--version"], package: "qemu-system-x86" },
  { name: "nats-server", args: ["--version"], package: "nats-server" },
  { name: "nft", args: ["--version"], package: "nftables" },
  { name: "ip", args: ["-Version"], package: "iproute2" },
  { name: "mksquashfs", args: ["-version"], package: "squashfs-tools" },
] as const;

const commandLimitMs = 5_000;
const brokenBelowBytes = 256 * 1024 ** 2;
const warnBelowBytes = 2 * 1024 ** 3;

export async function checkHost(environment: Environment): Promise<readonly Finding[]> {
  const versions = programs.map((program) => checkProgram(program, environment.path));
  return [await checkDisk(environment.dataDir), ...(await Promise.all(versions)).flat()];
}

async function checkProgram(program: (typeof programs)[number], path: string): Promise<Finding[]> {
  const { name } = program;
  try {
    const limits = { timeout: commandLimitMs, env: { PATH: path } };
    const { stdout, stderr } = await promisify(execFile)(name, program.args, limits);
    const [line = ""] = `${stdout}${stderr}`.split("\n");
    const version = /\d+\.\d+(?:\.\d+)?/.exec(line)?.[0];
    const found: Finding = { name, level: "ok", message: `${name} ${version ?? "is there"}.` };
    return name === "nats-server" && version !== undefined ? [found, ...syncFindings(version)] : [found];
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      // mksquashfs prints its version and fails.
      return [{ name, level: "ok", message: `${name} is there.` }];
    const advice = `Install the package ${program.package}; \`bash scripts/setup.sh\` does.`;
    return [{ name, level: "broken", message: `There is no ${name} on this host.`, advice }];
  }
}

/** The setting came with 2.10; before it, what the bus acknowledged may be lost with the power. */
function syncFindings(version: string): Finding[] {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major > 2 || (major === 2 && minor >= 10)) return [];
  return [
    {
      name: "nats-server",
      level: "warning",
      message: `nats-server ${version} has no sync_interval, so its store is not flushed at each write; what makes a write durable is that it is also in replicas on hosts.`,
    },
  ];
}

async function checkDisk(dataDir: string): Promise<Finding> {
  for (let directory = dataDir; ; directory = dirname(directory)) {
    try {
      const { bavail, blocks, bsize } = await statfs(directory);
      const free = bavail * bsize;
      const message = `${formatBytes(free)} of ${formatBytes(blocks * bsize)} are free for ${dataDir}.`;
      if (free >= warnBelowBytes) return { name: "disk", level: "ok", message };
      const level = free < brokenBelowBytes ? "broken" : "warning";
      return { name: "disk", level, message, advice: "Remove images with `hearth images rm`, or make room." };
    } catch {
      // Not made yet: its parent is on the disk that it will be on.
      if (directory === dirname(directory))
        return { name: "disk", level: "warning", message: `It is not known how much room ${dataDir} has.` };
    }
  }
}
