/**
 * A program that reads commands by lines and is kept running, because starting it costs more than its work: with
 * 1,000 machines present `nft` takes 0.7 ms for a machine's members, and 4 to 7 ms when it is started for them.
 *
 * After each request comes a question whose answer is known; what the program says before that answer is what it
 * says against the request. Requests wait for each other. A program that ends or says nothing fails the request
 * that it had, whose effect is then unknown, and the next request starts another one. It is ended when it is idle,
 * and after a number of requests, as it keeps a history of them; and it ends by itself with this process, since its
 * input does.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";

export interface LineSessionOptions {
  readonly command: readonly string[];
  readonly question: string;
  /** Matches the whole answer, and nothing that the program says against a request. */
  readonly answer: RegExp;
  readonly answerMs: number;
  readonly idleMs?: number;
  readonly maxRequests?: number;
}

/** The program is gone or does not answer; whether it did what it was asked is not known. */
export class SessionBroken extends Error {}

const defaultIdleMs = 30_000;
const defaultMaxRequests = 2_000;
/** What is said against one request; more is a program gone wrong. */
const maxAnswerChars = 1 << 20;

interface Running {
  readonly child: ChildProcess;
  /** The process is gone. */
  readonly exited: Promise<void>;
  /** And all that it said is heard. */
  readonly ended: Promise<void>;
  requests: number;
  heard: string;
  onHeard: () => void;
}

export class LineSession {
  readonly #options: LineSessionOptions;
  #running: Running | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #idle: NodeJS.Timeout | undefined;

  constructor(options: LineSessionOptions) {
    this.#options = options;
  }

  /**
   * @returns what the program said against the request, empty when it did it
   * @throws SessionBroken; the signal's reason
   */
  async ask(request: string, signal?: AbortSignal): Promise<string> {
    const turn = this.#last.then(() => this.#ask(request, signal));
    this.#last = turn.catch(() => undefined);
    return await turn;
  }

  close(): void {
    clearTimeout(this.#idle);
    const running = this.#running;
    this.#running = undefined;
    running?.child.stdin?.end();
  }

  async #ask(request: string, signal: AbortSignal | undefined): Promise<string> {
    signal?.throwIfAborted();
    clearTimeout(this.#idle);
    const { question, answerMs, idleMs = defaultIdleMs, maxRequests = defaultMaxRequests } = this.#options;
    this.#running ??= this.#start();
    const running = this.#running;
    running.requests += 1;
    running.heard = "";
    const over = Promise.withResolvers<never>();
    const late = setTimeout(() => over.reject(new SessionBroken("it does not answer")), answerMs);
    const abort = (): void => over.reject(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      running.child.stdin?.write(`${request}\n${question}\n`);
      const said = await Promise.race([this.#answered(running), over.promise]);
      if (running.requests >= maxRequests) this.close();
      else this.#idle = setTimeout(() => this.close(), idleMs).unref();
      return said;
    } catch (error) {
      // It may still act, so it must be gone before anything else is asked of another one.
      this.#running = undefined;
      running.child.kill("SIGKILL");
      await running.exited;
      throw error;
    } finally {
      clearTimeout(late);
      signal?.removeEventListener("abort", abort);
    }
  }

  #answered(running: Running): Promise<string> {
    return new Promise((resolve, reject) => {
      running.onHeard = () => {
        const found = this.#options.answer.exec(running.heard);
        if (found !== null) resolve(running.heard.slice(0, found.index).trim());
        else if (running.heard.length > maxAnswerChars) reject(new SessionBroken("it says too much"));
      };
      running.ended.then(() => reject(new SessionBroken(`it ended: ${running.heard.slice(-500).trim()}`)));
    });
  }

  #start(): Running {
    // One pipe for both, so that what is said against a request comes before the answer after it.
    const child = spawn("sh", ["-c", 'exec "$0" "$@" 2>&1', ...this.#options.command], {
      stdio: ["pipe", "pipe", "ignore"],
      // nft writes the history of an interactive user to its home.
      env: { ...process.env, HOME: "/nonexistent" },
    });
    const either = (event: "exit" | "close") =>
      new Promise<void>((resolve) => {
        child.once(event, () => resolve());
        child.once("error", () => resolve());
      });
    const [exited, ended] = [either("exit"), either("close")];
    const running: Running = { child, exited, ended, requests: 0, heard: "", onHeard: () => undefined };
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      running.heard += chunk;
      running.onHeard();
    });
    // A program that is gone breaks the pipe; its end says so.
    child.stdin?.on("error", () => undefined);
    void exited.then(() => {
      if (this.#running === running) this.#running = undefined;
    });
    child.unref();
    for (const stream of [child.stdin, child.stdout]) (stream as Socket | null)?.unref();
    return running;
  }
}
