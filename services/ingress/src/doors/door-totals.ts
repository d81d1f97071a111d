/**
 * What the processes of a front door have counted, as one. What a process has counted stays when it ends, so that no
 * counter goes down. Gauges are those of the first process, which counts the connections of all and has the same routes.
 */
import { type DoorSnapshot, mergeSnapshots } from "../telemetry/door-metrics.ts";

const nothing: DoorSnapshot = { apps: {}, refused: {}, gauges: {}, waiting: {} };

export class DoorTotals {
  readonly #last = new Map<number, DoorSnapshot>();
  #ended = nothing;

  take(door: number, snapshot: DoorSnapshot): void {
    this.#last.set(door, { ...snapshot, gauges: {} });
  }

  /** As of its last word. */
  end(door: number): void {
    const last = this.#last.get(door);
    this.#last.delete(door);
    if (last !== undefined) this.#ended = mergeSnapshots([this.#ended, { ...last, waiting: {} }]);
  }

  with(own: DoorSnapshot): DoorSnapshot {
    return mergeSnapshots([own, this.#ended, ...this.#last.values()]);
  }
}
