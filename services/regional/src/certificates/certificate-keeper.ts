/**
 * Has certificates issued for the names that ask for one, and renewed. Every API process does this for the whole region;
 * a compare-and-set decides which of them deals with a name (acme-hold.ts), and one that dies is heard by its silence. It
 * is woken by facts and by a timer and takes no input; the next look is the retry. Nothing of it is loaded or connected
 * while no name asks.
 */
import { randomUUID } from "node:crypto";
import { isRateLimited, isReservedName, problemOf, unsaidLimitMs } from "@hearth/acme";
import { HearthError } from "@hearth/errors";
import { type AcmeFact, factKeys, factPrefixes, type HostnameFact } from "@hearth/machine";
import type { Logger } from "@hearth/telemetry";
import { type WriteDeps, writeFact } from "../state/write-fact.ts";
import { type Account, type AcmeSettings, openAccount } from "./acme-account.ts";
import { begun, due, failed } from "./acme-due.ts";
import { AcmeHold, defaultHoldLimits, type HoldLimits } from "./acme-hold.ts";
import { runOrder } from "./acme-order.ts";
import type { CertificateSecret } from "./certificate-secret.ts";

export interface CertificateKeeperDeps extends WriteDeps {
  readonly nodeId: string;
  readonly settings: AcmeSettings;
  readonly secret: CertificateSecret;
  /** Resolves when the front doors of all hosts that answer show the challenge. */
  readonly shown: (hostname: string, token: string, signal: AbortSignal) => Promise<void>;
  readonly nowMs: () => number;
  readonly monotonicMs?: () => number;
  readonly random?: () => number;
  readonly logger: Logger;
  readonly limits?: Partial<KeeperLimits>;
}

interface KeeperLimits extends HoldLimits {
  readonly lookMs: number;
  readonly pollMs: number;
  /** Orders of this process at a time. */
  readonly orders: number;
}

const defaultLimits: KeeperLimits = { ...defaultHoldLimits, lookMs: 5_000, pollMs: 500, orders: 4 };

export class CertificateKeeper {
  readonly #deps: CertificateKeeperDeps;
  readonly #limits: KeeperLimits;
  /** A process that starts again is another holder. */
  readonly #holder: string;
  readonly #running = new Map<string, Promise<void>>();
  readonly #heardMs = new Map<string, number>();
  readonly #stopping = new AbortController();
  readonly #watching: Disposable[] = [];
  #timer: NodeJS.Timeout | undefined;
  #account: Promise<Account> | undefined;
  #isForgotten = false;
  #pausedUntilMs = 0;
  #beganMs = 0;

  constructor(deps: CertificateKeeperDeps) {
    this.#deps = deps;
    this.#limits = { ...defaultLimits, ...deps.limits };
    this.#holder = `${deps.nodeId}-${randomUUID().slice(0, 8)}`;
  }

  start(): void {
    const { replica } = this.#deps.view;
    this.#beganMs = this.#monotonicMs();
    this.#watching.push(
      replica.watch(factPrefixes.acme, ({ key }) => {
        this.#heardMs.set(key.slice(factPrefixes.acme.length), this.#monotonicMs());
      }),
      // Read when its fact is told to all: the watcher of a change may not act within it.
      replica.watch(factPrefixes.hostname, ({ key }) => {
        setImmediate(() => this.#consider(key.slice(factPrefixes.hostname.length)));
      }),
    );
    this.#timer = setInterval(() => this.look(), this.#limits.lookMs).unref();
    this.look();
  }

  /** What is under way is left to another process, or to this one when it is back. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearInterval(this.#timer);
    for (const watch of this.#watching) watch[Symbol.dispose]();
    await Promise.allSettled(this.#running.values());
  }

  look(): void {
    for (const { key } of this.#deps.view.replica.list(factPrefixes.hostname))
      this.#consider(key.slice(factPrefixes.hostname.length));
    this.#dropOrphans();
  }

  get #acmeFacts() {
    const { replica } = this.#deps.view;
    return (hostname: string) => {
      const found = replica.get(factKeys.acme(hostname));
      return { fact: found?.value as AcmeFact | undefined, revision: found?.revision ?? 0 };
    };
  }

  #monotonicMs(): number {
    return (this.#deps.monotonicMs ?? (() => performance.now()))();
  }

  #consider(hostname: string): void {
    const { view, secret, nowMs, logger } = this.#deps;
    const { orders } = this.#limits;
    if (this.#stopping.signal.aborted || this.#running.has(hostname) || this.#running.size >= orders) return;
    if (secret.known === undefined || !view.replica.isSettled) return;
    const claim = view.replica.get(factKeys.hostname(hostname))?.value as HostnameFact | undefined;
    if (claim?.acme_requested !== true || isReservedName(hostname) || nowMs() < this.#pausedUntilMs) return;
    const { fact } = this.#acmeFacts(hostname);
    const next = due(fact, hostname, nowMs());
    if (next.kind === "later" || (next.kind === "held" && !this.#isSilent(hostname))) return;
    const work = this.#deal(hostname)
      .catch((error: unknown) => logger.warn({ err: error, hostname }, "a certificate; it is tried again"))
      .finally(() => {
        this.#running.delete(hostname);
        setImmediate(() => this.look());
      });
    this.#running.set(hostname, work);
  }

  /** Time in which this copy of the state was behind is nobody's silence. */
  #isSilent(hostname: string): boolean {
    const { replica } = this.#deps.view;
    if (replica.ageMs > this.#limits.silentMs / 2) return false;
    const heardMs = Math.max(this.#heardMs.get(hostname) ?? 0, this.#beganMs);
    return this.#monotonicMs() - heardMs >= this.#limits.silentMs;
  }

  async #deal(hostname: string): Promise<void> {
    const { settings, secret, shown, nowMs, logger } = this.#deps;
    const { fact: known, revision } = this.#acmeFacts(hostname);
    const first = begun(known, {
      ...{ hostname, directory: settings.directory, holder: this.#holder, nowMs: nowMs() },
    });
    const hold = await AcmeHold.take(this.#deps, first, { expected: revision, limits: this.#limits });
    if (hold === undefined) return;
    const signal = AbortSignal.any([this.#stopping.signal, hold.lost]);
    try {
      const { client, key: accountKey } = await this.#openAccount(signal);
      const certificate = await runOrder({
        ...{ client, accountKey, hold, shown, nowMs, signal },
        secret: secret.value,
        challenge: settings.challenge ?? "http-01",
        pollMs: this.#limits.pollMs,
      });
      const renewed = known?.certificate !== undefined;
      await hold.release(() => ({
        ...{ certificate, order: undefined, failed: 0, failures: [], next_attempt_ms: 0 },
      }));
      logger.info({ hostname, renewed, not_after_ms: certificate.not_after_ms }, "a certificate was issued");
    } catch (thrown) {
      // A process that ends, and one that has been overtaken, has nothing to say of the order.
      if (signal.aborted) await hold.abandon();
      else await this.#fail(hold, thrown);
    }
  }

  async #fail(hold: AcmeHold, thrown: unknown): Promise<void> {
    const { nowMs, random = Math.random, logger } = this.#deps;
    const { hostname } = hold.fact;
    logger.warn({ err: thrown, hostname }, "a certificate was not issued");
    const problem = problemOf(thrown);
    if (problem?.type === "accountDoesNotExist") {
      this.#account = undefined;
      this.#isForgotten = true;
    }
    // It may be the account that is limited, so no other name is tried before that is over.
    if (problem !== undefined && isRateLimited(problem))
      this.#pausedUntilMs = nowMs() + Math.min(problem.retryAfterMs ?? unsaidLimitMs, unsaidLimitMs);
    await hold.release((fact) => failed(fact, thrown, { nowMs: nowMs(), random: random() }));
  }

  /** Kept while it works, so that nonces and the directory are not asked for each time. */
  #openAccount(signal: AbortSignal): Promise<Account> {
    const { settings, secret, nowMs, view, facts } = this.#deps;
    const isForgotten = this.#isForgotten;
    const open = { view, facts, settings, nowMs, isForgotten, secret: secret.value };
    this.#account ??= openAccount(open, signal).then(
      (account) => {
        this.#isForgotten = false;
        return account;
      },
      (error: unknown) => {
        this.#account = undefined;
        throw error;
      },
    );
    return this.#account;
  }

  /** What is left of a name that was removed while somebody dealt with it. */
  #dropOrphans(): void {
    const { view, logger } = this.#deps;
    const { replica } = view;
    if (!replica.isSettled) return;
    for (const { key, revision } of replica.list(factPrefixes.acme)) {
      const hostname = key.slice(factPrefixes.acme.length);
      const claim = replica.get(factKeys.hostname(hostname))?.value as HostnameFact | undefined;
      if (claim?.acme_requested === true || this.#running.has(hostname)) continue;
      writeFact(this.#deps, { key, value: undefined, expectedRevision: revision }).catch((error: unknown) => {
        if (HearthError.from(error).code !== "conflict") logger.warn({ err: error, hostname }, "sweep");
      });
    }
  }
}
