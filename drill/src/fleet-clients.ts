/**
 * Clients of a fleet that remember what they were told. Each has machines of its own and does one thing at a time,
 * through whichever API, so that what must be so afterwards is certain. What was asked for and not acknowledged may be
 * so or not; a create of that kind is asked again with its key, often of the other API, which must not make a second.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { RunningFleet } from "@hearth/testkit";

export interface FleetMachine {
  readonly name: string;
  readonly key: string;
  readonly body: object;
  readonly isReal: boolean;
  id: string | undefined;
  state: "there" | "gone" | "doubt";
  /** Undefined while a change of it is in doubt. */
  wanted: "started" | "rests" | undefined;
}

export const drillApp = "drill";
export const machinesPath = `/v1/apps/${drillApp}/machines`;
const callLimitMs = 15_000;
const pauseMs = 100;
const mostOwn = 12;
const startElsewhere = 0.3;

export class FleetClients {
  readonly machines: FleetMachine[] = [];
  readonly acknowledged = { created: 0, destroyed: 0, started: 0, stopped: 0 };
  /** By what was answered. */
  readonly refused: Record<string, number> = {};
  /** Times that an API said of a machine that is there that it is not. */
  readonly denied: string[] = [];
  readonly #fleet: RunningFleet;
  readonly #random: () => number;
  readonly #image: string;
  readonly #mostReal: number;
  readonly #stopping = new AbortController();
  #running: Promise<unknown> = Promise.resolve();

  /** @param mostReal so many have a virtual machine at a time, at most */
  constructor(fleet: RunningFleet, random: () => number, image: string, mostReal: number) {
    this.#fleet = fleet;
    this.#random = random;
    this.#image = image;
    this.#mostReal = mostReal;
  }

  run(count: number): void {
    this.#running = Promise.all(Array.from({ length: count }, () => this.#client()));
  }

  /** Resolves when nothing is under way any more; throws what no client may meet. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #client(): Promise<void> {
    const own: FleetMachine[] = [];
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const wasDone = await this.#act(own);
      await delay(wasDone ? pauseMs : 3 * pauseMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async #act(own: FleetMachine[]): Promise<boolean> {
    const unanswered = own.find(({ id, state }) => id === undefined && state === "doubt");
    if (unanswered !== undefined) return this.#create(unanswered);
    const there = own.filter(({ state }) => state === "there");
    const machine = there[Math.floor(this.#random() * there.length)];
    const dice = this.#random();
    if (machine === undefined || (there.length < mostOwn && dice < 0.4)) return this.#createNew(own);
    if (machine.isReal && dice < 0.8)
      return this.#switch(machine, machine.wanted === "started" ? "stop" : "start");
    if (dice < 0.6) return this.#look(machine);
    return this.#destroy(machine);
  }

  async #createNew(own: FleetMachine[]): Promise<boolean> {
    const real = this.machines.filter(({ isReal, state }) => isReal && state !== "gone").length;
    const isReal = real < this.#mostReal;
    const name = `m${randomUUID().slice(0, 13)}`;
    const config = {
      image: this.#image,
      guest: { cpu_kind: "shared", cpus: 1, memory_mb: 128 },
      ...(this.#random() < startElsewhere && { restart_elsewhere: true }),
    };
    const machine: FleetMachine = {
      ...{ name, key: randomUUID(), isReal, id: undefined, state: "doubt", wanted: undefined },
      body: { name, config, skip_launch: !isReal },
    };
    own.push(machine);
    this.machines.push(machine);
    return this.#create(machine);
  }

  async #create(machine: FleetMachine): Promise<boolean> {
    const headers = { "idempotency-key": machine.key };
    const made = await this.#call("create", "POST", machinesPath, machine.body, headers);
    if (made === undefined) return false;
    machine.id = (made as { id: string }).id;
    machine.state = "there";
    machine.wanted = machine.isReal ? "started" : "rests";
    this.acknowledged.created += 1;
    return true;
  }

  async #switch(machine: FleetMachine, verb: "start" | "stop"): Promise<boolean> {
    machine.wanted = undefined;
    const done = await this.#call(verb, "POST", `${machinesPath}/${machine.id}/${verb}`, {});
    if (done === undefined) return false;
    machine.wanted = verb === "start" ? "started" : "rests";
    this.acknowledged[verb === "start" ? "started" : "stopped"] += 1;
    return true;
  }

  async #look(machine: FleetMachine): Promise<boolean> {
    return (await this.#call("look", "GET", `${machinesPath}/${machine.id}`)) !== undefined;
  }

  async #destroy(machine: FleetMachine): Promise<boolean> {
    machine.state = "doubt";
    const path = `${machinesPath}/${machine.id}?force=true`;
    if ((await this.#call("destroy", "DELETE", path)) === undefined) return false;
    machine.state = "gone";
    this.acknowledged.destroyed += 1;
    return true;
  }

  /** The body of a success; anything else is only counted. */
  async #call(
    what: string,
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<unknown> {
    const { apis, token } = this.#fleet.region;
    const api = apis[Math.floor(this.#random() * apis.length)] as (typeof apis)[number];
    const refused = (why: string): undefined => {
      const kind = `${what}: ${why}`;
      this.refused[kind] = (this.refused[kind] ?? 0) + 1;
    };
    try {
      const answer = await fetch(`${api.apiUrl}${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(callLimitMs),
      });
      const said = (await answer.json()) as { code?: string };
      if (answer.ok) return said;
      if (answer.status === 404) this.denied.push(`${what} at ${api.port}: ${path} ${said.code}`);
      return refused(`${answer.status} ${said.code}`);
    } catch {
      return refused("no answer");
    }
  }
}
