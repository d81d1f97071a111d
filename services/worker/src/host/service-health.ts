/**
 * What the host agent says of the services of this host. It is told to the worker because the worker speaks for the
 * node: an API that reads the node's fact sees it, and the agent needs no right to publish. It counts for a while
 * only, so that an agent that has ended leaves no old news.
 */
import { HearthError } from "@hearth/errors";
import Type from "typebox";
import Value from "typebox/value";

const sentences = Type.Array(Type.String({ maxLength: 500 }), { maxItems: 20 });
export const ServiceHealth = Type.Object(
  { problems: sentences, warnings: sentences },
  { additionalProperties: false },
);
export type ServiceHealth = Type.Static<typeof ServiceHealth>;

const validMs = 30_000;
const nothing: ServiceHealth = { problems: [], warnings: [] };

export class HeardServices {
  readonly #monotonicMs: () => number;
  readonly #onChange: () => void;
  #heard: { readonly health: ServiceHealth; readonly atMs: number } | undefined;

  /** @param onChange what is wrong is something else than it was */
  constructor(onChange: () => void, monotonicMs: () => number = () => performance.now()) {
    this.#monotonicMs = monotonicMs;
    this.#onChange = onChange;
  }

  /** @throws HearthError `invalid_argument` */
  take(payload: unknown): { readonly ok: true } {
    if (!Value.Check(ServiceHealth, payload))
      throw new HearthError("invalid_argument", {
        message: "service-health needs problems and warnings, each a list of sentences.",
      });
    const before = this.now.problems.join("\n");
    this.#heard = { health: payload, atMs: this.#monotonicMs() };
    if (payload.problems.join("\n") !== before) this.#onChange();
    return { ok: true };
  }

  get now(): ServiceHealth {
    const heard = this.#heard;
    return heard !== undefined && this.#monotonicMs() - heard.atMs < validMs ? heard.health : nothing;
  }
}
