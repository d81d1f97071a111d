/** `hearth dev`: what people who work on Hearth, or try it, run on one machine. */
import { HearthError } from "@hearth/errors";
import type { FleetHost, Region, RunningFleet } from "@hearth/fleet";
import { type Command, InvalidArgumentError } from "commander";
import type { Context } from "./context.ts";
import { exitCode } from "./failure.ts";
import { jsonOption, parsePositive } from "./options.ts";
import { note, printJsonLine, printLine, printTable } from "./output.ts";

interface Options {
  readonly hosts: number;
  readonly apis?: number;
  readonly buses: 1 | 3;
  readonly json?: boolean;
}

export function define(command: Command, context: Context): void {
  command
    .command("fleet")
    .description("a region of several hosts on this machine, until ctrl-C takes it away")
    .option("--hosts <count>", "how many hosts", parsePositive, 3)
    .option("--apis <count>", "how many of them serve the API (2)", parsePositive)
    .option("--buses <count>", "how many of them run a server of the bus: 1 or 3", parseBuses, 1 as const)
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Each host is a network namespace with processes, a host name, a data directory and machines of its own. It needs root,
and it takes away all that it made when it ends, however it ends.`,
    )
    .action((options: Options) => runFleet(options, context));
}

function parseBuses(text: string): 1 | 3 {
  if (text === "1") return 1;
  if (text === "3") return 3;
  throw new InvalidArgumentError("Give 1 or 3.");
}

async function runFleet({ hosts, apis, buses, json = false }: Options, context: Context): Promise<void> {
  const { startFleet } = await import("@hearth/fleet");
  const stopping = new AbortController();
  // The second one ends this process at once, and the fleet with it.
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, () => stopping.abort());
  const onStep = (text: string): void => note(`hearth: ${text}`);
  try {
    const chosen = apis === undefined ? {} : { apis };
    await using fleet = await startFleet({ hosts, buses, ...chosen, onStep, signal: stopping.signal });
    if (json) printJsonLine(describe(fleet));
    else print(fleet);
    await aborted(stopping.signal);
    onStep("taking the fleet away");
  } catch (error) {
    if (!stopping.signal.aborted || HearthError.from(error).code !== "cancelled") throw error;
    context.exitCode = exitCode.interrupted;
  }
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });

function describe({ name, directory, region }: RunningFleet): object {
  const describeHost = (host: FleetHost) => ({
    name: host.name,
    node_id: region.nodeId(host),
    address: host.address,
    roles: rolesOf(region, host),
    api_url: region.apis.includes(host) ? host.apiUrl : null,
    data_dir: host.files.dataDir,
    run_dir: host.files.runDir,
    enter: host.files.enterPath,
  });
  return { name, directory, token_path: region.tokenPath, hosts: region.hosts.map(describeHost) };
}

function print({ name, directory, region }: RunningFleet): void {
  const [first] = region.hosts;
  if (first === undefined) return;
  printLine(`The fleet ${name} is up, in ${directory}. Ctrl-C takes all of it away.`);
  printTable(
    ["HOST", "NODE", "ADDRESS", "ROLES", "API"],
    region.hosts.map((host) => [
      host.name,
      region.nodeId(host),
      host.address,
      rolesOf(region, host).join(","),
      region.apis.includes(host) ? host.apiUrl : "",
    ]),
  );
  printLine("In another terminal:");
  printLine(`  export HEARTH_API_URL=${first.apiUrl} HEARTH_TOKEN=$(cat ${region.tokenPath})`);
  printLine("  hearth doctor                      how the region stands");
  printLine("  hearth run --rm IMAGE -- COMMAND   a machine for one command, on one of the hosts");
  printLine("On a host:");
  printLine(`  ${first.files.enterPath}                     a shell on it; hearth there speaks to that host`);
  printLine(`  ${first.files.enterPath} hearth doctor       one command on it`);
}

const rolesOf = ({ apis, buses }: Region, host: FleetHost): string[] => [
  "worker",
  ...(apis.includes(host) ? ["api"] : []),
  ...(buses.includes(host) ? ["bus"] : []),
];
