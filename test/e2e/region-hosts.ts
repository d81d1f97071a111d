/** Hosts on which a test makes a region of its own by the real command, with what it asks of each. */
import { join } from "node:path";
import { Fleet, type FleetHost } from "@hearth/fleet";
import { type Finished, type Json, repositoryRoot } from "@hearth/testkit";

type Variables = Readonly<Record<string, string>>;

export interface RegionHost {
  readonly address: string;
  readonly dataDir: string;
  /** Runs the real command on this host. */
  hearth(args: readonly string[], environment?: Variables): Promise<Finished>;
  /** What doctor says of the host, and of its node. */
  doctor(environment?: Variables): Promise<Json>;
  /** A program of the test's own, as an ES module, where the host's addresses are. */
  script(code: string): Promise<Finished>;
  /** Its processes, by command line. */
  processes(): { readonly pid: number; readonly command: string }[];
  /** Ends all of its processes at once, as a loss of power does, and has the power back. */
  kill(): Promise<void>;
}

export interface RegionHosts extends AsyncDisposable {
  readonly hosts: readonly RegionHost[];
}

export async function regionHosts(count: number): Promise<RegionHosts> {
  const fleet = await Fleet.powerOn(count);
  return { hosts: fleet.hosts.map(regionHost), [Symbol.asyncDispose]: () => fleet[Symbol.asyncDispose]() };
}

function regionHost(host: FleetHost): RegionHost {
  const run = (command: readonly string[], variables: Variables) =>
    host.run([
      "env",
      "-C",
      repositoryRoot,
      ...Object.entries(variables).map(([name, value]) => `${name}=${value}`),
      ...command,
    ]);
  const hearth: RegionHost["hearth"] = (args, environment) =>
    run([join(repositoryRoot, "cli/bin/hearth"), ...args], { HEARTH_ADDRESS: host.address, ...environment });
  return {
    address: host.address,
    dataDir: host.files.dataDir,
    hearth,
    processes: () => host.processes().map(({ pid, args }) => ({ pid, command: args.join(" ") })),
    async doctor(environment) {
      return JSON.parse((await hearth(["doctor", "--json"], environment)).stdout);
    },
    script: (code) => run([process.execPath, "--input-type=module", "-e", code], { NODE_NO_WARNINGS: "1" }),
    async kill() {
      await host.lose();
      await host.boot();
    },
  };
}
