/**
 * Starts a machine that sleeps because somebody asks for its app: one at a time for each app, and after a failure not
 * again for a while, so that a machine that cannot start is not tried for each request.
 *
 * A node may command its own worker only, so it wakes machines of its own host.
 */
import { HearthError } from "@hearth/errors";
import type { Wake } from "./balancer.ts";
import type { EndpointState } from "./endpoint.ts";
import type { LoadedTarget } from "./targets.ts";

export interface WakerDeps {
  readonly nodeId: string;
  /** Resolves when the worker has taken the command. */
  readonly start: (machineId: string) => Promise<void>;
  readonly failed: (app: string, why: string) => void;
  readonly log: (fields: object, text: string) => void;
  readonly retryMs?: number;
  /** A start that was taken and of which nothing is seen in this time may be asked for again. */
  readonly seenMs?: number;
}

interface Attempt extends Wake {
  readonly machineId: string;
  readonly untilMs: number;
  /** It was seen to be no longer asleep. */
  readonly begun: boolean;
}

const defaultRetryMs = 5_000;
const defaultSeenMs = 10_000;

export class Waker {
  readonly #deps: WakerDeps;
  readonly #attempts = new Map<string, Attempt>();

  constructor(deps: WakerDeps) {
    this.#deps = deps;
  }

  /** Undefined when none of these machines can be started from here. */
  wake({ app, places }: LoadedTarget): Wake | undefined {
    const { nodeId, seenMs = defaultSeenMs } = this.#deps;
    const nowMs = performance.now();
    const now = this.#attempts.get(app);
    if (now !== undefined && now.untilMs > nowMs) return now;
    this.#attempts.delete(app);
    if (places.some(({ endpoint }) => endpoint.state === "waking")) return { failure: undefined };
    const sleeping = places.find(
      ({ endpoint, service }) =>
        endpoint.state === "asleep" && service.autostart && endpoint.nodeId === nodeId,
    );
    if (sleeping === undefined) return undefined;
    const { id } = sleeping.endpoint;
    const attempt: Attempt = { machineId: id, failure: undefined, begun: false, untilMs: nowMs + seenMs };
    this.#attempts.set(app, attempt);
    this.#deps.log({ event: "wake", app, machine_id: id }, "waking a machine");
    this.#deps.start(id).catch((error: unknown) => {
      const { code, message } = HearthError.from(error);
      this.#fail(app, id, `${code}: ${message}`);
    });
    return attempt;
  }

  /** @param state of a machine of the app, undefined for one that is gone */
  changed(app: string, state: (machineId: string) => EndpointState | undefined): void {
    const attempt = this.#attempts.get(app);
    if (attempt === undefined || attempt.failure !== undefined) return;
    const now = state(attempt.machineId);
    if (now === "waking")
      this.#attempts.set(app, { ...attempt, begun: true, untilMs: Number.POSITIVE_INFINITY });
    else if (now !== "asleep" && now !== "leaving") this.#attempts.delete(app);
    else if (attempt.begun) this.#fail(app, attempt.machineId, "it stopped again before it was ready");
  }

  #fail(app: string, machineId: string, why: string): void {
    const { retryMs = defaultRetryMs } = this.#deps;
    const failure = `${machineId}: ${why}`;
    this.#attempts.set(app, { machineId, failure, begun: true, untilMs: performance.now() + retryMs });
    this.#deps.failed(app, failure);
  }
}
