/** The region that the hosts of a fleet form: the first makes it with `hearth up`, the others join with a token each. */
import { openAsBlob, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "@hearth/errors";
import { askAgent } from "./agent-state.ts";
import type { FleetHost } from "./fleet-host.ts";

export interface RegionPlan {
  /** So many hosts, from the first on, serve the API. */
  readonly apis: number;
  /** So many, from the first on, run a server of the bus. */
  readonly buses: 1 | 3;
}

export interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: answers of the public API are asserted field by field
  readonly body: any;
}

const callLimitMs = 90_000;
const settleLimitMs = 90_000;

export class Region {
  readonly hosts: readonly FleetHost[];
  /** Those that serve the API. */
  readonly apis: readonly FleetHost[];
  readonly buses: readonly FleetHost[];

  constructor(hosts: readonly FleetHost[], { apis, buses }: RegionPlan) {
    if (hosts.length < Math.max(apis, buses) || apis < 1)
      throw new HearthError("invalid_argument", {
        message: `A fleet of ${hosts.length} hosts has no ${apis} APIs and ${buses} bus servers; each is on a host of its own.`,
      });
    this.hosts = hosts;
    this.apis = hosts.slice(0, apis);
    this.buses = hosts.slice(0, buses);
  }

  /** @throws HearthError with what the command said, when it failed */
  async form(onStep: (text: string) => void = () => undefined): Promise<void> {
    const [first, ...others] = this.hosts;
    if (first === undefined) return;
    onStep(`hearth up on ${first.name}`);
    await succeed(first, ["up", "--address", first.address]);
    for (const host of others) {
      onStep(`hearth join on ${host.name}`);
      await this.join(host);
    }
    onStep("waiting until every host is ready");
    await this.settled();
  }

  /**
   * Resolves when every host that is up is ready, and all copies of the state are whole.
   * @throws HearthError `deadline_exceeded` saying what is not
   */
  async settled(limitMs = settleLimitMs): Promise<void> {
    const endMs = Date.now() + limitMs;
    for (;;) {
      const unsettled = (await Promise.all(this.hosts.map((host) => this.#unsettled(host)))).flat();
      if (unsettled.length === 0) return;
      if (Date.now() > endMs)
        throw new HearthError("deadline_exceeded", {
          message: `The region has not settled within ${limitMs} ms: ${unsettled.join(" ")}`,
        });
      await delay(100);
    }
  }

  async #unsettled(host: FleetHost): Promise<string[]> {
    if (!host.isUp) return [];
    const agent = await askAgent(host.files.runDir);
    if (agent === undefined) return [`The agent of ${host.name} does not answer.`];
    const resting = agent.services.filter(({ state }) => state !== "running");
    const copies = agent.bus?.current_copies;
    return [
      ...(agent.state === "ready" ? [] : [`${host.name} is ${agent.state}: ${agent.problems.join(" ")}`]),
      ...resting.map(({ name, state }) => `${name} on ${host.name} is ${state}.`),
      ...(this.buses.length > 1 && copies !== undefined && copies < this.buses.length
        ? [`${host.name} sees ${copies} whole copies of the state.`]
        : []),
    ];
  }

  /** Brings a host in that is not in yet. */
  async join(host: FleetHost): Promise<void> {
    const [first] = this.hosts;
    const roles = [
      ...(this.apis.includes(host) ? ["--api"] : []),
      ...(this.buses.includes(host) ? ["--bus"] : []),
    ];
    const token = await succeed(first ?? host, ["token", "node", ...roles]);
    await succeed(host, ["join", "-", "--address", host.address], token.trim());
  }

  /** Brings a host that is in the region back, from whatever became of it. */
  async start(host: FleetHost): Promise<void> {
    if (!host.isUp) await host.boot();
    await succeed(host, ["up"]);
  }

  get tokenPath(): string {
    return (this.hosts[0] as FleetHost).files.tokenPath;
  }

  /** The operator's. */
  get token(): string {
    return readFileSync(this.tokenPath, "utf8").trim();
  }

  /** What the region calls the host. */
  nodeId(host: FleetHost): string {
    const text = readFileSync(join(host.files.dataDir, "node.json"), "utf8");
    return (JSON.parse(text) as { node_id: string }).node_id;
  }

  /** One call of the API of a host; the parsed body, whatever the status. */
  async call(
    api: FleetHost,
    method: string,
    path: string,
    { body, limitMs = callLimitMs }: { readonly body?: unknown; readonly limitMs?: number } = {},
  ): Promise<Answer> {
    const answer = await fetch(`${api.apiUrl}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(limitMs),
    });
    const text = await answer.text();
    return { status: answer.status, body: text === "" ? undefined : JSON.parse(text) };
  }

  /** Gives every host an image from an archive. */
  async importImage(archive: string, reference: string): Promise<void> {
    const [api] = this.apis;
    if (api === undefined) return;
    for (const host of this.hosts) {
      const query = new URLSearchParams({ reference, node_id: this.nodeId(host) });
      const answer = await fetch(`${api.apiUrl}/v1/images/import?${query}`, {
        method: "POST",
        headers: { authorization: `Bearer ${this.token}`, "content-type": "application/octet-stream" },
        body: await openAsBlob(archive),
        signal: AbortSignal.timeout(callLimitMs),
      });
      const text = await answer.text();
      if (!answer.ok || !text.includes('"kind":"done"'))
        throw new HearthError("internal", { message: `${host.name} did not take ${archive}: ${text}` });
    }
  }
}

async function succeed(host: FleetHost, args: readonly string[], input = ""): Promise<string> {
  const { code, stdout, stderr } = await host.hearth(args, input);
  if (code === 0) return stdout;
  const message = `\`hearth ${args[0]}\` on ${host.name} ended with ${code}: ${stderr.trim()}`;
  throw new HearthError("internal", { message });
}
