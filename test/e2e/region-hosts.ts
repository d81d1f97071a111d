/** Hosts of a region for a test: the real command and real services, each with an address in one network namespace. */
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Finished, finish, type Json, repositoryRoot } from "@hearth/testkit";

export interface RegionHost {
  readonly address: string;
  readonly dataDir: string;
  /** Runs the real command on this host. */
  hearth(args: readonly string[], environment?: NodeJS.ProcessEnv): Promise<Finished>;
  /** What doctor says of the host, and of its node. */
  doctor(environment?: NodeJS.ProcessEnv): Promise<Json>;
  /** A program of the test's own, as an ES module, where the host's addresses are. */
  script(code: string): Promise<Finished>;
  /** Its processes, by command line. */
  processes(): { readonly pid: number; readonly command: string }[];
  /** Ends all of its processes at once, as a loss of power does. */
  kill(): Promise<void>;
}

export interface RegionHosts extends AsyncDisposable {
  readonly hosts: readonly RegionHost[];
}

export async function regionHosts(count: number): Promise<RegionHosts> {
  const directory = await mkdtemp(join(tmpdir(), "hearth-region-"));
  const netns = `hearth-${randomBytes(4).toString("hex")}`;
  const ip = (...args: string[]) => execFileSync("ip", args);
  ip("netns", "add", netns);
  ip("-n", netns, "link", "set", "lo", "up");
  const hosts = Array.from({ length: count }, (_, index) => {
    const address = `10.213.7.${index + 1}`;
    ip("-n", netns, "addr", "add", `${address}/32`, "dev", "lo");
    return host(netns, address, join(directory, `h${index + 1}`));
  });
  return {
    hosts,
    async [Symbol.asyncDispose]() {
      for (const each of hosts) await each.kill();
      ip("netns", "del", netns);
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function host(netns: string, address: string, directory: string): RegionHost {
  const dataDir = join(directory, "data");
  const base = {
    ...process.env,
    PATH: `${process.env.PATH}:/usr/sbin:/sbin`,
    HEARTH_DATA_DIR: dataDir,
    HEARTH_RUN_DIR: join(directory, "run"),
    HEARTH_ADDRESS: address,
  };
  const inNetwork = (program: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}) => {
    const child = spawn("ip", ["netns", "exec", netns, program, ...args], {
      env: { ...base, ...environment },
    });
    child.stdin.end();
    return finish(child);
  };
  const hearth: RegionHost["hearth"] = (args, environment) =>
    inNetwork(join(repositoryRoot, "cli/bin/hearth"), args, environment);
  const processes = () =>
    readdirSync("/proc").flatMap((name) => {
      try {
        if (!readFileSync(`/proc/${name}/environ`, "utf8").includes(`HEARTH_DATA_DIR=${dataDir}\0`))
          return [];
        const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ");
        return [{ pid: Number(name), command }];
      } catch {
        // No process, or one that ended while it was looked at.
        return [];
      }
    });
  return {
    address,
    dataDir,
    hearth,
    processes,
    async doctor(environment) {
      return JSON.parse((await hearth(["doctor", "--json"], environment)).stdout);
    },
    script: (code) =>
      inNetwork(process.execPath, ["--input-type=module", "-e", code], { NODE_NO_WARNINGS: "1" }),
    async kill() {
      for (let left = processes(); left.length > 0; left = processes()) {
        for (const { pid } of left) {
          try {
            process.kill(pid, "SIGKILL");
          } catch {
            // It has ended.
          }
        }
        await delay(20);
      }
    },
  };
}
