/**
 * Says again what is so of this node's machines when the cluster may have forgotten it.
 *
 * The worker has no copy of the stream, and needs none: its own database is the truth. It asks only whether the newest
 * of what it published is still there; what a stream loses is missing from its end, so then all of it is. If it is not,
 * and once at the start, everything is published again, and when that has arrived the node's own fact says from which
 * revision on. Whoever has an older fact of this node then knows that its machine is gone, also when the word of its
 * end was lost.
 */
import type { FactStore, Outbox } from "@hearth/cluster";
import type { NodeFact } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";

export interface RestatementDeps {
  readonly facts: Pick<FactStore, "isIntact" | "position" | "noteRestated">;
  readonly outbox: Pick<Outbox, "mark" | "isSent">;
  /** Publishes each machine through the outbox. */
  readonly republish: () => void;
  readonly logger: Logger;
}

type Restated = NonNullable<NodeFact["restated"]>;

export class Restatement {
  readonly #deps: RestatementDeps;
  #underWay: { readonly from: Restated; readonly mark: number } | undefined;
  #restated: Restated | undefined;
  #isFirst = true;

  constructor(deps: RestatementDeps) {
    this.#deps = deps;
  }

  /** Of the last time that everything has been said. */
  get restated(): Restated | undefined {
    return this.#restated;
  }

  /** Throws while the bus cannot tell; the next look asks again. */
  async look(): Promise<void> {
    const { facts, outbox, republish, logger } = this.#deps;
    if (this.#isFirst || !(await facts.isIntact())) {
      const { stream, revision } = await facts.position();
      if (!this.#isFirst)
        logger.error({ stream, revision }, "the stream had lost facts of this node; all are said again");
      this.#restated = undefined;
      republish();
      facts.noteRestated();
      this.#isFirst = false;
      this.#underWay = { from: { stream, revision: revision + 1 }, mark: outbox.mark };
    }
    if (this.#underWay === undefined || !outbox.isSent(this.#underWay.mark)) return;
    this.#restated = this.#underWay.from;
    this.#underWay = undefined;
  }
}
