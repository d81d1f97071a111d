/**
 * Starts a machine that sleeps because somebody asks for its app: one at a time for each app, on this host before
 * others. A machine that could not be started is passed over for a while, so that it is not tried for each request, and
 * the next one is tried.
 *
 * The command goes to the worker that has the machine. Doors of several hosts may ask for one at the same time: to the
 * worker, what is being started already is started.
 */
import { HearthError } from "@hearth/errors";
import type { Endpoint, EndpointState } from "../routes/endpoint.ts";
import type { LoadedTarget } from "../routes/targets.ts";
import type { Wake } from "./balancer.ts";

export interface WakerDeps {
  readonly nodeId: string;
  /** Resolves when the worker of its host has taken the command. */
  readonly start: (machine: Pick<Endpoint, "id" | "nodeId">) => Promise<void>;
  /** A start failed: who waits for the app asks again, and is given another or the reason. */
  readonly failed: (app: string) => void;
  readonly log: (fields: object, text: string) => void;
  readonly retryMs?: number;
  /** A start that was taken and of which nothing is seen in this time may be asked for again. */
  readonly seenMs?: number;
}

interface Attempt {
  readonly machineId: string;
  readonly untilMs: number;
  /** It was seen to be no longer asleep. */
  readonly begun: boolean;
}

interface Failure {
  readonly why: string;
  readonly untilMs: number;
}

const defaultRetryMs = 5_000;
const defaultSeenMs = 10_000;
const underWay: Wake = { failure: undefined };

export class Waker {
  readonly #deps: WakerDeps;
  /** By app. */
  readonly #attempts = new Map<string, Attempt>();
  /** By machine. */
  readonly #failures = new Map<string, Failure>();

  constructor(deps: WakerDeps) {
    this.#deps = deps;
  }

  /** Undefined when none of these machines can be started. */
  wake({ app, places }: LoadedTarget): Wake | undefined {
    const nowMs = performance.now();
    if ((this.#attempts.get(app)?.untilMs ?? 0) > nowMs) return underWay;
    this.#attempts.delete(app);
    if (places.some(({ endpoint }) => endpoint.state === "waking")) return underWay;
    const sleeping = places.filter(
      ({ endpoint, service }) => endpoint.state === "asleep" && service.autostart,
    );
    const rested = sleeping.filter(({ endpoint }) => !this.#hasFailed(endpoint.id, nowMs));
    const isNear = ({ endpoint }: (typeof rested)[number]): boolean => endpoint.nodeId === this.#deps.nodeId;
    const chosen = rested.find(isNear) ?? rested[0];
    if (chosen !== undefined) {
      this.#start(app, chosen.endpoint, nowMs);
      return underWay;
    }
    const failures = sleeping.map(({ endpoint }) => this.#failures.get(endpoint.id));
    const [last] = failures.filter((one) => one !== undefined).sort((a, b) => b.untilMs - a.untilMs);
    return last && { failure: last.why };
  }

  #start(app: string, { id, nodeId }: Endpoint, nowMs: number): void {
    const { seenMs = defaultSeenMs, log, start } = this.#deps;
    this.#attempts.set(app, { machineId: id, begun: false, untilMs: nowMs + seenMs });
    log({ event: "wake", app, machine_id: id, host: nodeId }, "waking a machine");
    start({ id, nodeId }).catch((error: unknown) => {
      const { code, message } = HearthError.from(error);
      this.#fail(app, id, `${code}: ${message}`);
    });
  }

  /** @param state of a machine of the app, undefined for one that is gone */
  changed(app: string, state: (machineId: string) => EndpointState | undefined): void {
    const attempt = this.#attempts.get(app);
    if (attempt === undefined) return;
    const { machineId } = attempt;
    const now = state(machineId);
    if (now === "waking")
      this.#attempts.set(app, { ...attempt, begun: true, untilMs: Number.POSITIVE_INFINITY });
    else if (now === "lost") this.#fail(app, machineId, "its host was lost");
    else if (now !== "asleep" && now !== "leaving") {
      this.#attempts.delete(app);
      this.#failures.delete(machineId);
    } else if (attempt.begun) this.#fail(app, machineId, "it stopped again before it was ready");
  }

  #hasFailed(machineId: string, nowMs: number): boolean {
    const failure = this.#failures.get(machineId);
    if (failure === undefined || failure.untilMs > nowMs) return failure !== undefined;
    this.#failures.delete(machineId);
    return false;
  }

  #fail(app: string, machineId: string, why: string): void {
    const { retryMs = defaultRetryMs, failed } = this.#deps;
    const nowMs = performance.now();
    this.#failures.set(machineId, { why: `${machineId}: ${why}`, untilMs: nowMs + retryMs });
    for (const [id, { untilMs }] of this.#failures) if (untilMs <= nowMs) this.#failures.delete(id);
    if (this.#attempts.get(app)?.machineId === machineId) this.#attempts.delete(app);
    failed(app);
  }
}
