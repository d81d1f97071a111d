/**
 * What apps say of what their machines may send. It is kept with each machine, so that a machine that starts while the
 * bus is away has what was last heard, and a change reaches those that run at once. The version says which is newer:
 * whoever makes a machine tells of its app too, and may know less than this worker, or more.
 */
import { type Bus, FactWatch } from "@hearth/cluster";
import { type AppEgress, type AppFact, factPrefixes } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import type { MachineStore } from "../machines/machine-store.ts";

export interface AppEgressDeps {
  readonly bus: Bus;
  readonly logger: Pick<Logger, "debug" | "warn">;
  readonly store: Pick<MachineStore, "idsOfApp" | "find" | "note">;
  readonly wake: (machineId: string) => void;
  readonly onThrown: (error: unknown) => void;
}

export class AppEgressFacts {
  readonly #deps: AppEgressDeps;
  readonly #known = new Map<string, AppEgress>();
  readonly #watch: FactWatch;

  constructor(deps: AppEgressDeps) {
    this.#deps = deps;
    this.#watch = new FactWatch({
      ...{ bus: deps.bus, prefix: factPrefixes.app },
      onFact: (fact) => this.#take(fact),
      onError: (error) => deps.logger.debug({ err: error }, "the feed of apps broke; it starts again"),
    });
  }

  start(): void {
    this.#watch.start();
  }

  async stop(): Promise<void> {
    await this.#watch.stop();
  }

  newest(app: string, told: AppEgress | undefined): AppEgress | null {
    const known = this.#known.get(app);
    if (known === undefined || told === undefined) return known ?? told ?? null;
    return told.version > known.version ? told : known;
  }

  /** Never throws; what could not be kept is when the fact is told again. */
  #take({ key, value }: { readonly key: string; readonly value: unknown }): void {
    const app = key.slice(factPrefixes.app.length);
    const said = (value as AppFact | undefined)?.egress;
    // Its machines go with an app; another one of this name begins anew.
    if (value === undefined) this.#known.delete(app);
    if (said === undefined) return;
    const known = this.#known.get(app);
    if (known !== undefined && known.version >= said.version) return;
    try {
      for (const machineId of this.#deps.store.idsOfApp(app)) this.#keep(machineId, said);
      this.#known.set(app, said);
    } catch (error) {
      this.#deps.onThrown(error);
      this.#deps.logger.warn({ err: error }, "what an app says of egress could not be kept yet");
    }
  }

  #keep(machineId: string, said: AppEgress): void {
    const { store, wake } = this.#deps;
    const row = store.find(machineId);
    if (row === undefined || (row.appEgress?.version ?? 0) >= said.version) return;
    store.note(machineId, { appEgress: said });
    wake(machineId);
  }
}
