/** What a replica is told when it is made, and what it tells. */
import type { Bus } from "./bus.ts";
import type { SetAside } from "./replica-store.ts";

export interface ReplicaOptions {
  /** A promise when the service starts with the bus down; see `retryUntil` of `connectBus`. */
  readonly bus: Bus | Promise<Bus>;
  /** The SQLite file. */
  readonly path: string;
  /** Copies of the stream, if this replica has to make it. */
  readonly streamReplicas?: number;
  readonly retryMs?: number;
  /** How often the copy is compared with the stream's last revision. */
  readonly checkMs?: number;
  readonly onError?: (error: unknown) => void;
  /** Prefixes, each with its dot, whose values are read from the disk when they are asked for. */
  readonly onDisk?: readonly string[];
  /** Which keys this process may write, and therefore puts back when the stream has lost them; none when absent. */
  readonly restores?: (key: string) => boolean;
  /** How long nothing is settled after a loss, so that every other copy can put back what it has. */
  readonly settleMs?: number;
  readonly onStreamLoss?: (loss: StreamLoss) => void;
  /** The file could not be read, and the copy begins anew. */
  readonly onSetAside?: (aside: SetAside) => void;
}

export interface StreamLoss {
  /** Another stream, or the same one without its end. */
  readonly kind: "replaced" | "shortened";
  /** What only this copy had, deletions included. */
  readonly lost: number;
  /** Of these, what this process may write, and put back; the rest had been overtaken. */
  readonly restored: number;
  readonly overtaken: number;
}

/** What came with a change besides the fact. */
export interface Arrival {
  /** It was published while this copy followed, and is not what had piled up while it did not. */
  readonly isLive: boolean;
  /**
   * It was written before, and is here again because of a loss: somebody wrote it again, or an earlier stream took the
   * place of the one that was followed.
   */
  readonly isPutBack: boolean;
}

export interface WaitOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}
