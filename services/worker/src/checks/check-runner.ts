/**
 * Runs the health checks of one life of a machine. Each check is a loop of its own: one probe, ended at its time
 * limit; then what it saw is told; then a pause. So a check never has two probes under way, and a slow one holds up
 * no other. When `stop` resolves, nothing of it is left, neither a timer nor a connection.
 */
import { type CheckSpec, formatGoDuration, type Probe } from "@hearth/machine";
import type { Clock } from "../worker-deps.ts";
import { pauseMs, type Seen } from "./machine-checks.ts";

export interface CheckRunnerDeps {
  readonly specs: readonly CheckSpec[];
  /** When the machine's program was started. */
  readonly startedMs: number;
  readonly clock: Clock;
  /** Settles soon after its signal, and does not reject. */
  readonly probe: (probe: Probe, signal: AbortSignal) => Promise<Seen>;
  readonly onSeen: (spec: CheckSpec, seen: Seen) => void;
  /** What `onSeen` threw; the next probe is the next attempt. */
  readonly onError: (error: unknown) => void;
}

export class CheckRunner {
  readonly #deps: CheckRunnerDeps;
  readonly #stopping = new AbortController();
  readonly #probing = new Set<AbortController>();
  #loops: Promise<unknown> | undefined;

  constructor(deps: CheckRunnerDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#loops ??= Promise.all(this.#deps.specs.map((spec) => this.#repeat(spec)));
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const probing of this.#probing) probing.abort();
    await this.#loops;
  }

  async #repeat(spec: CheckSpec): Promise<void> {
    const { clock, startedMs, onSeen, onError } = this.#deps;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const seen = await this.#once(spec);
      if (signal.aborted) return;
      try {
        onSeen(spec, seen);
      } catch (error) {
        onError(error);
      }
      await clock.sleep(pauseMs(spec, seen, clock.nowMs() - startedMs), signal).catch(() => undefined);
    }
  }

  async #once(spec: CheckSpec): Promise<Seen> {
    const { clock, probe } = this.#deps;
    // One for each end of the race: the probe's own, and that of the timer that limits it.
    const probing = new AbortController();
    const timing = new AbortController();
    this.#probing.add(probing).add(timing);
    let late = false;
    const timer = clock.sleep(spec.timeoutMs, timing.signal).then(
      () => {
        late = true;
        probing.abort();
      },
      () => undefined,
    );
    const seen = await probe(spec.probe, probing.signal);
    timing.abort();
    await timer;
    this.#probing.delete(probing);
    this.#probing.delete(timing);
    if (!late || seen.passing) return seen;
    return { passing: false, output: `no answer within ${formatGoDuration(spec.timeoutMs)}` };
  }
}
