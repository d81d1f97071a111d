/** Datagrams by `node:dgram`, one a batch. */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";
import type { DatagramOptions, Datagrams } from "./datagrams.ts";
import { addressAt, addressWords, byteAt, type Lanes, lanesOf, memoryBytes, slotBytes } from "./lanes.ts";
import { AddressMap, addressPort, addressText, writeAddress, writePort } from "./socket-address.ts";

/** A datagram that the kernel has not taken yet keeps its bytes, so they are written one behind another. */
const slabBytes = 64 * 1024;
/** What piles up behind a kernel that takes nothing is given up: its clients ask again. */
const maxQueued = 1_024;
const maxKnown = 1_024;

interface KnownAddress {
  readonly text: string;
  readonly words: Int32Array;
}

export async function openNode(options: DatagramOptions): Promise<Datagrams> {
  const isIpv6 = options.address.includes(":");
  const socket = createSocket({
    ...{ type: isIpv6 ? "udp6" : "udp4", ipv6Only: isIpv6 },
    // Addresses come from datagrams. Node's own look-up puts each answer off to a later turn.
    lookup: (address, _options, done) => done(null, address, isIpv6 ? 6 : 4),
  });
  // With a look-up that answers at once it listens before `bind` returns.
  const listening = once(socket, "listening");
  socket.bind(options.port, options.address);
  await listening;
  socket.setRecvBufferSize(options.receiveBufferBytes);
  return new NodeDatagrams(socket, options).datagrams;
}

class NodeDatagrams {
  readonly #socket: Socket;
  readonly #handler: DatagramOptions["handler"];
  readonly #lanes: Lanes = lanesOf(new ArrayBuffer(memoryBytes));
  readonly #byText = new Map<string, KnownAddress>();
  readonly #byWords = new AddressMap<KnownAddress>(maxKnown);
  #zones = 0;
  #slab = Buffer.allocUnsafeSlow(slabBytes);
  #used = 0;
  #isOpen = true;
  /** Without it nobody is told of what the kernel refuses. */
  readonly #sent = (error: Error | null): void => {
    if (error !== null && this.#isOpen) this.#handler.lost(1);
  };

  constructor(socket: Socket, { handler }: DatagramOptions) {
    this.#socket = socket;
    this.#handler = handler;
    socket.on("message", (message, from) => this.#receive(message, from));
    socket.on("error", () => handler.lost(1));
  }

  get datagrams(): Datagrams {
    return {
      ...this.#lanes,
      port: this.#socket.address().port,
      send: (count) => {
        for (let slot = 0; slot < count && this.#isOpen; slot += 1) this.#send(slot);
      },
      close: async () => {
        if (!this.#isOpen) return;
        this.#isOpen = false;
        const closed = once(this.#socket, "close");
        this.#socket.close();
        await closed;
      },
    };
  }

  #receive(message: Buffer, { address, port }: RemoteInfo): void {
    const { lengths, addresses, bytes } = this.#lanes.incoming;
    const known = this.#byText.get(address) ?? this.#know(address);
    addresses.set(known.words);
    // Only the port is new.
    writePort(addresses, 0, port);
    lengths[0] = message.length;
    message.copy(bytes, 0, 0, slotBytes);
    this.#handler.received(1);
  }

  #know(text: string): KnownAddress {
    const words = new Int32Array(addressWords);
    const [address = "", link] = text.split("%");
    // Node names the link where the kernel numbers it. It only has to be told from others.
    if (link !== undefined) this.#zones += 1;
    writeAddress(words, 0, { address, port: 0, zone: link === undefined ? 0 : this.#zones });
    const known = { text, words };
    if (this.#byText.size >= maxKnown) this.#byText.clear();
    this.#byText.set(text, known);
    this.#byWords.set(words, 0, known);
    return known;
  }

  #send(slot: number): void {
    const { lengths, addresses, bytes } = this.#lanes.outgoing;
    const length = lengths[slot] ?? 0;
    const at = addressAt(slot);
    if (this.#socket.getSendQueueCount() > maxQueued) {
      this.#handler.lost(1);
      return;
    }
    if (this.#used + length > slabBytes) {
      this.#slab = Buffer.allocUnsafeSlow(slabBytes);
      this.#used = 0;
    }
    bytes.copy(this.#slab, this.#used, byteAt(slot), byteAt(slot) + length);
    const to = this.#byWords.get(addresses, at)?.text ?? addressText(addresses, at);
    this.#socket.send(this.#slab, this.#used, length, addressPort(addresses, at), to, this.#sent);
    this.#used += length;
  }
}
