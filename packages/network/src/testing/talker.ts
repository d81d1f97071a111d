/**
 * A process in a network namespace that listens on TCP and UDP and sends what it is told to: what stands for the
 * program of a guest. That a packet does not arrive is shown by one that was sent after it and does.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export const talkerPort = 7000;
const silenceMs = 600;
const limitMs = 10_000;

const program = `
const net = require("net"), dgram = require("dgram");
const say = (o) => console.log(JSON.stringify(o));
net.createServer((s) => { s.on("error", () => 0); s.end(); }).listen(${talkerPort}, "::");
const udp = dgram.createSocket("udp6").bind(${talkerPort}, "::", () => say({ up: true }));
udp.on("message", (m, { address }) => say({ heard: String(m), from: address }));
require("readline").createInterface(process.stdin).on("line", (line) => {
  const { id, to, source, text } = JSON.parse(line);
  if (text !== undefined) {
    const s = dgram.createSocket(to.includes(":") ? "udp6" : "udp4");
    const done = () => { s.close(); say({ id, ok: true }); };
    s.on("error", done);
    s.bind(0, source, () => s.send(text, ${talkerPort}, to, done));
    return;
  }
  const s = net.connect({ host: to, port: ${talkerPort}, localAddress: source });
  const end = (ok) => { clearTimeout(t); s.destroy(); say({ id, ok }); };
  const t = setTimeout(end, ${silenceMs}, false);
  s.on("connect", () => end(true)).on("error", () => end(false));
});
process.stdin.on("end", () => process.exit(0));`;

export class Talker implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #heard = new Map<string, string>();
  readonly #answers = new Map<number, (ok: boolean) => void>();
  #changed = Promise.withResolvers<void>();
  #asked = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** @param namespace of `ip netns` */
  static async start(namespace: string): Promise<Talker> {
    const child = spawn("ip", ["netns", "exec", namespace, process.execPath, "-e", program], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const talker = new Talker(child);
    const up = Promise.withResolvers<void>();
    if (child.stdout === null) throw new Error("no output");
    createInterface(child.stdout).on("line", (line) => {
      const said = JSON.parse(line);
      if (said.up) up.resolve();
      else if (said.heard !== undefined) talker.#take(said.heard, said.from);
      else talker.#answers.get(said.id)?.(said.ok);
    });
    await up.promise;
    return talker;
  }

  /** Whether a TCP connection comes about; a packet that is dropped shows as silence. */
  reaches(to: string, source?: string): Promise<boolean> {
    return this.#ask({ to, source });
  }

  /** One datagram, whether it arrives or not. */
  async send(to: string, text: string, source?: string): Promise<void> {
    await this.#ask({ to, source, text });
  }

  /** Whether a datagram with this text came before one with the other text, which must come. */
  async heardBefore(text: string, later: string): Promise<boolean> {
    const limit = AbortSignal.timeout(limitMs);
    const late = once(limit, "abort").then(() => {
      throw new Error(`${later} did not arrive`);
    });
    while (!this.#heard.has(later)) await Promise.race([this.#changed.promise, late]);
    late.catch(() => undefined);
    return this.#heard.has(text);
  }

  sourceOf(text: string): string | undefined {
    return this.#heard.get(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exit = once(this.#child, "exit");
    this.#child.stdin?.end();
    await exit;
  }

  #take(text: string, from: string): void {
    this.#heard.set(text, from);
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  #ask(order: { to: string; source?: string | undefined; text?: string }): Promise<boolean> {
    const id = ++this.#asked;
    this.#child.stdin?.write(`${JSON.stringify({ id, ...order })}\n`);
    return new Promise((resolve) => this.#answers.set(id, resolve));
  }
}
