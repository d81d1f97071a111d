/**
 * DNS over UDP. A question that was answered before costs two look-ups and a copy: it is neither read nor encoded,
 * and no promise is made for it. What that is worth, `npm run bench -- dns` tells.
 */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";
import { writeAnswer } from "./answer-cache.ts";
import type { Metrics } from "./metrics.ts";
import type { Resolver } from "./resolver.ts";
import type { SourceTable } from "./source-table.ts";

export interface ServerDeps {
  readonly resolver: Resolver;
  readonly sources: SourceTable;
  readonly metrics: Metrics;
}

/** A datagram that the kernel has not taken yet keeps its bytes, so answers are written one behind another. */
const slabBytes = 64 * 1024;
const largestAnswer = 2_048;
/** What piles up behind a kernel that takes nothing is given up: its clients ask again. */
const maxQueued = 1_024;
/** A burst of all guests waits here rather than in front of a full queue. */
const receiveBufferBytes = 4 * 1024 * 1024;
const refusalsPerSecond = 100;

export class UdpServer {
  readonly #deps: ServerDeps;
  readonly #socket: Socket;
  #slab = Buffer.allocUnsafeSlow(slabBytes);
  #used = 0;
  #refusalsLeft = refusalsPerSecond;
  #refusalsAtMs = 0;

  constructor(deps: ServerDeps, family: "udp4" | "udp6") {
    this.#deps = deps;
    this.#socket = createSocket({
      ...{ type: family, ipv6Only: family === "udp6" },
      // Addresses come from datagrams. Node's own look-up puts each answer off to a later turn.
      lookup: (address, _options, done) => done(null, address, family === "udp6" ? 6 : 4),
    });
  }

  /** Resolves with the port. @throws what `bind` says */
  async start(address: string, port: number): Promise<number> {
    // With a look-up that answers at once it listens before `bind` returns.
    const listening = once(this.#socket, "listening");
    this.#socket.bind(port, address);
    await listening;
    this.#socket.setRecvBufferSize(receiveBufferBytes);
    this.#socket.on("message", (message, from) => this.#receive(message, from));
    this.#socket.on("error", () => {
      this.#deps.metrics.sendErrors += 1;
    });
    return this.#socket.address().port;
  }

  async stop(): Promise<void> {
    this.#socket.close();
    await once(this.#socket, "close");
  }

  #receive(message: Buffer, from: RemoteInfo): void {
    const { sources, metrics, resolver } = this.#deps;
    metrics.udpQueries += 1;
    const source = sources.find(from.address);
    if (source === undefined) {
      this.#refuse(message, from);
      return;
    }
    if (!sources.spend(source)) {
      metrics.limited += 1;
      return;
    }
    const { cache } = source;
    // All but the id: it says whatever the answer depends on.
    const key = message.toString("latin1", 2);
    const cached = cache.get(key);
    if (cached !== undefined) {
      if (this.#used + largestAnswer > slabBytes) this.#newSlab();
      const at = this.#used;
      const length = writeAnswer(cached, this.#slab, at, message.readUInt16BE(0));
      this.#used = at + length;
      metrics.cachedAnswers += 1;
      this.#send(this.#slab, at, length, from);
      return;
    }
    const reply = resolver.reply(message, source, "udp");
    if (reply === undefined) return;
    if (reply.reusable !== undefined) cache.put(key, reply.reusable);
    const { bytes } = reply;
    if (bytes instanceof Promise) void bytes.then((late) => this.#send(late, 0, late.length, from));
    else this.#send(bytes, 0, bytes.length, from);
  }

  #refuse(message: Buffer, from: RemoteInfo): void {
    this.#deps.metrics.refusedSources += 1;
    const now = performance.now();
    if (now - this.#refusalsAtMs > 1_000) {
      this.#refusalsAtMs = now;
      this.#refusalsLeft = refusalsPerSecond;
    }
    if (this.#refusalsLeft <= 0) return;
    this.#refusalsLeft -= 1;
    const bytes = this.#deps.resolver.refusal(message);
    if (bytes !== undefined) this.#send(bytes, 0, bytes.length, from);
  }

  #send(bytes: Buffer, at: number, length: number, { port, address }: RemoteInfo): void {
    const { metrics } = this.#deps;
    if (this.#socket.getSendQueueCount() > maxQueued) {
      metrics.sendErrors += 1;
      return;
    }
    const code = (bytes[at + 3] ?? 0) & 0x0f;
    metrics.responses[code] = (metrics.responses[code] ?? 0) + 1;
    this.#socket.send(bytes, at, length, port, address);
  }

  #newSlab(): void {
    this.#slab = Buffer.allocUnsafeSlow(slabBytes);
    this.#used = 0;
  }
}
