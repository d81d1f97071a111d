/**
 * Clients of a front door that count each request, and take nothing for granted: a request counts as answered when its
 * status, its length and its words are right, and as dropped otherwise. None is sent twice, so no library hides a loss.
 * Each client keeps one connection and sends its next request when the last one is over.
 */
import { once } from "node:events";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";

export interface StrictTarget {
  readonly port: number;
  readonly host: string;
  readonly path: string;
  readonly method: "GET" | "POST";
  /** What a right answer says, whichever version gives it. */
  readonly right: RegExp;
}

export interface StrictCount {
  sent: number;
  readonly answered: Map<string, number>;
  /** A sentence each, so that nobody has to guess; the first hundred. */
  readonly dropped: string[];
  droppedCount: number;
  slowestMs: number;
}

const answerLimitMs = 120_000;
const keptSentences = 100;

export class StrictClients {
  readonly count: StrictCount = {
    ...{ sent: 0, answered: new Map(), dropped: [], droppedCount: 0, slowestMs: 0 },
  };
  readonly #stopping = new AbortController();
  readonly #clients: Promise<void>[] = [];
  readonly #pauseMs: number;

  /** @param pauseMs of each client, between two requests */
  constructor(pauseMs: number) {
    this.#pauseMs = pauseMs;
  }

  add(target: StrictTarget, clients: number): void {
    for (let client = 0; client < clients; client += 1) this.#clients.push(this.#run(target));
  }

  /** Resolves when so many more requests were answered; for want of them it says so. */
  async more(answers: number, limitMs: number): Promise<void> {
    const wanted = this.#answers + answers;
    const endMs = performance.now() + limitMs;
    while (this.#answers < wanted) {
      if (performance.now() > endMs) throw new Error(`${answers} more answers: not within ${limitMs} ms`);
      await delay(50);
    }
  }

  /** Every request that was begun comes to its end and is counted. */
  async stop(): Promise<StrictCount> {
    this.#stopping.abort();
    await Promise.all(this.#clients);
    return this.count;
  }

  get #answers(): number {
    return [...this.count.answered.values()].reduce((sum, one) => sum + one, 0);
  }

  async #run(target: StrictTarget): Promise<void> {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const beganMs = performance.now();
      this.count.sent += 1;
      try {
        const said = await this.#ask(target, agent);
        this.count.answered.set(said, (this.count.answered.get(said) ?? 0) + 1);
      } catch (error) {
        this.count.droppedCount += 1;
        const { method, path } = target;
        const sentence = `${new Date().toISOString()} ${method} ${path}: ${(error as Error).message}`;
        if (this.count.dropped.length < keptSentences) this.count.dropped.push(sentence);
      }
      this.count.slowestMs = Math.max(this.count.slowestMs, Math.round(performance.now() - beganMs));
      await delay(this.#pauseMs, undefined, { signal }).catch(() => undefined);
    }
    agent.destroy();
  }

  async #ask({ port, host, path, method, right }: StrictTarget, agent: Agent): Promise<string> {
    const signal = AbortSignal.timeout(answerLimitMs);
    const asking = httpRequest({ host: "127.0.0.1", port, path, method, agent, headers: { host }, signal });
    asking.end(method === "POST" ? "one=1" : undefined);
    const [answer] = (await once(asking, "response")) as [IncomingMessage];
    const body = await text(answer);
    const status = answer.statusCode ?? 0;
    const reason = answer.headers["hearth-reason"];
    if (status !== 200) throw new Error(`status ${status}${reason === undefined ? "" : ` (${reason})`}`);
    if (!right.test(body)) throw new Error(`another answer: ${JSON.stringify(body.slice(0, 100))}`);
    return body.trim();
  }
}
