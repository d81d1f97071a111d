/**
 * Clients of a region that remember what they were told. Each has apps and machines of its own and does one thing at
 * a time, so that what must be there afterwards is certain; what was not acknowledged may be there or not.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { ApiAnswer, ApiProcess } from "./api-process.ts";

export interface KnownApp {
  readonly name: string;
  state: "there" | "gone" | "doubt";
}

export interface KnownMachine {
  readonly app: string;
  readonly name: string;
  readonly key: string;
  readonly body: object;
  id: string | undefined;
  state: "there" | "gone" | "doubt";
  /** What its metadata may say: one value when the last change was acknowledged. */
  counts: (string | undefined)[];
}

export class Clients {
  readonly apps: KnownApp[] = [];
  readonly machines: KnownMachine[] = [];
  acknowledged = 0;
  refused = 0;
  readonly #apis: readonly ApiProcess[];
  readonly #random: () => number;
  readonly #launched: number;
  #paused: PromiseWithResolvers<void> | undefined;
  #busy = 0;
  #over = false;

  /** @param launched the share of machines that are started, too */
  constructor(apis: readonly ApiProcess[], random: () => number, launched = 0.05) {
    this.#apis = apis;
    this.#random = random;
    this.#launched = launched;
  }

  /** Until `writes` are acknowledged, or `stop`. */
  async run(count: number, writes: number): Promise<void> {
    await Promise.all(
      Array.from({ length: count }, async () => {
        const own: Own = { apps: [], machines: [], number: 0 };
        while (!this.#over && this.acknowledged < writes) {
          await this.#paused?.promise;
          this.#busy += 1;
          const did = await this.#act(own).finally(() => {
            this.#busy -= 1;
          });
          if (did) this.acknowledged += 1;
          else {
            this.refused += 1;
            await delay(50);
          }
        }
      }),
    );
  }

  stop(): void {
    this.#over = true;
    this.#paused?.resolve();
  }

  /** Nothing is under way while `look` runs. */
  async quietly<T>(look: () => Promise<T>): Promise<T> {
    this.#paused ??= Promise.withResolvers();
    try {
      while (this.#busy > 0) await delay(5);
      return await look();
    } finally {
      this.#paused.resolve();
      this.#paused = undefined;
    }
  }

  #call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<ApiAnswer> {
    const api = this.#apis[Math.floor(this.#random() * this.#apis.length)] as ApiProcess;
    return api.call(method, path, body, headers);
  }

  async #act(own: Own): Promise<boolean> {
    const app = this.#pick(own.apps, ({ state }) => state === "there");
    const unanswered = this.#pick(own.machines, ({ id, state }) => id === undefined && state === "doubt");
    if (unanswered !== undefined) return this.#create(unanswered);
    const machine = this.#pick(own.machines, ({ id, state }) => id !== undefined && state === "there");
    const dice = this.#random();
    if (app === undefined || dice < 0.2) return this.#createApp(own);
    if (dice < 0.28) return this.#deleteApp(own);
    if (machine === undefined || dice < 0.55) return this.#newMachine(own, app);
    if (dice < 0.85) return this.#setCount(own, machine);
    return this.#destroy(machine);
  }

  #pick<T>(from: readonly T[], fits: (one: T) => boolean): T | undefined {
    const fitting = from.filter(fits);
    return fitting[Math.floor(this.#random() * fitting.length)];
  }

  async #createApp(own: Own): Promise<boolean> {
    const app: KnownApp = { name: `a${randomUUID().slice(0, 13)}`, state: "doubt" };
    own.apps.push(app);
    this.apps.push(app);
    const { status } = await this.#call("POST", "/v1/apps", {
      app_name: app.name,
      org_slug: `o${this.apps.length}`,
    });
    if (status === 201) app.state = "there";
    return status === 201;
  }

  async #deleteApp(own: Own): Promise<boolean> {
    const used = new Set(own.machines.filter(({ state }) => state !== "gone").map(({ app }) => app));
    const app = this.#pick(own.apps, ({ name, state }) => state === "there" && !used.has(name));
    if (app === undefined) return this.#createApp(own);
    app.state = "doubt";
    const { status } = await this.#call("DELETE", `/v1/apps/${app.name}`);
    if (status === 202) app.state = "gone";
    // Its machines are destroyed, and their fact may yet be on its way to this API.
    else if (status === 409) app.state = "there";
    return status === 202;
  }

  async #newMachine(own: Own, { name: app }: KnownApp): Promise<boolean> {
    own.number += 1;
    const name = `m${randomUUID().slice(0, 13)}`;
    const machine: KnownMachine = {
      ...{ app, name, key: randomUUID(), id: undefined, state: "doubt", counts: [undefined] },
      body: {
        name,
        skip_launch: this.#random() >= this.#launched,
        config: {
          image: "docker.io/local/box:1",
          guest: { cpus: 1, memory_mb: 128 },
          restart: { policy: "no" },
        },
      },
    };
    own.machines.push(machine);
    this.machines.push(machine);
    return this.#create(machine);
  }

  async #create(machine: KnownMachine): Promise<boolean> {
    const headers = { "idempotency-key": machine.key };
    const { status, body } = await this.#call(
      "POST",
      `/v1/apps/${machine.app}/machines`,
      machine.body,
      headers,
    );
    if (status !== 200) return false;
    machine.id = body.id;
    machine.state = "there";
    return true;
  }

  async #setCount(own: Own, machine: KnownMachine): Promise<boolean> {
    own.number += 1;
    const count = `${own.number}`;
    const before = machine.counts;
    machine.counts = [...before, count];
    const path = `/v1/apps/${machine.app}/machines/${machine.id}/metadata/count`;
    const { status } = await this.#call("POST", path, { value: count });
    if (status >= 200 && status < 300) machine.counts = [count];
    return status >= 200 && status < 300;
  }

  async #destroy(machine: KnownMachine): Promise<boolean> {
    machine.state = "doubt";
    const { status } = await this.#call(
      "DELETE",
      `/v1/apps/${machine.app}/machines/${machine.id}?force=true`,
    );
    if (status === 200) machine.state = "gone";
    return status === 200;
  }
}

interface Own {
  readonly apps: KnownApp[];
  readonly machines: KnownMachine[];
  number: number;
}
