/**
 * What the server refuses by permission. NATS says so on the side: to a request the client library matches it, but a
 * plain publish looks as if it had gone out, and a subscription as if nobody ever sent. So each refusal is told to who
 * connected, the streams that send on the subject break, and a subscription's is thrown by the next `flush`.
 */
import { HearthError } from "@hearth/errors";
import { type NatsConnection, PermissionViolationError } from "@nats-io/nats-core";

export class Refusals {
  readonly #publishers = new Map<string, (error: HearthError) => void>();
  #subscription: HearthError | undefined;

  constructor(connection: NatsConnection, onRefused?: (error: HearthError) => void) {
    void this.#follow(connection, onRefused);
  }

  /** Calls when a publish to the subject is refused, until it is disposed of. */
  ofPublish(subject: string, call: (error: HearthError) => void): Disposable {
    this.#publishers.set(subject, call);
    return { [Symbol.dispose]: () => void this.#publishers.delete(subject) };
  }

  /** @throws HearthError `bus_refused`, once for what was refused since the last time */
  throwSubscription(): void {
    const error = this.#subscription;
    this.#subscription = undefined;
    if (error !== undefined) throw error;
  }

  async #follow(connection: NatsConnection, onRefused?: (error: HearthError) => void): Promise<void> {
    for await (const status of connection.status()) {
      const error = status.type === "error" ? refusedBy(status.error) : undefined;
      if (error === undefined) continue;
      if (error.details?.operation === "publish")
        this.#publishers.get(String(error.details.subject))?.(error);
      else this.#subscription ??= error;
      onRefused?.(error);
    }
  }
}

/** As an error with a code, if that is what the thrown error or one of its causes says. */
export function refusedBy(thrown: unknown): HearthError | undefined {
  for (let error = thrown; error instanceof Error; error = error.cause)
    if (error instanceof PermissionViolationError) {
      const { operation, subject } = error;
      const act = operation === "publish" ? "publish on" : "listen to";
      return new HearthError("bus_refused", {
        message: `The bus does not let this service ${act} ${subject}; a node may only speak for itself.`,
        details: { operation, subject },
        cause: thrown,
      });
    }
  return undefined;
}
