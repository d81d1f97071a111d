/**
 * The answer to one request on the short path, written to its connection without the streams of Node's own `http`. It
 * has those of `ServerResponse`'s methods that an exchange needs, and the same framing: the guest's length where it has
 * one, and chunks where it has none. A small answer is one write.
 */
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";

export interface ShortConnection {
  readonly socket: Socket;
  /** Said in each answer; seconds. */
  readonly keepAliveSeconds: number;
  /** There will be no other request on it. */
  readonly isLeaving: boolean;
  /** A part of the answer went to the client. */
  moved(): void;
  /** The answer is written. */
  answered(response: ShortResponse, isLast: boolean): void;
}

/** Above this, copying costs more than a second write. */
const joinedBytes = 16 * 1024;
const printable = /^[\t\x20-\x7e\x80-\xff]*$/;
const hasNoBody = (status: number): boolean => status === 204 || status === 304;

export class ShortResponse {
  headersSent = false;
  statusCode = 0;
  /** In which nothing moves while it is answered; the door's own when undefined. */
  idleMs: number | undefined;
  readonly #connection: ShortConnection;
  readonly #isHead: boolean;
  #onDrain: (() => void) | undefined;
  #onClose: (() => void) | undefined;
  /** Written with what comes next. */
  #held = "";
  #isChunked = false;
  #isBare = false;
  #isLast = false;
  #isOver = false;
  #trailers = "";

  constructor(connection: ShortConnection, isHead: boolean) {
    this.#connection = connection;
    this.#isHead = isHead;
  }

  get socket(): Socket {
    return this.#connection.socket;
  }

  on(event: "drain" | "close", listener: () => void): void {
    if (event === "drain") this.#onDrain = listener;
    else this.#onClose = listener;
  }

  drained(): void {
    this.#connection.moved();
    this.#onDrain?.();
  }

  /** The connection has gone before the answer was written. */
  closed(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#onClose?.();
  }

  /** @param text the status's own words, or the headers: name, value, name, value */
  writeHead(status: number, text: string | readonly string[], list?: readonly string[]): void {
    const [words, headers] = typeof text === "string" ? [text, list ?? []] : ["", text];
    const phrase = words !== "" && printable.test(words) ? words : (STATUS_CODES[status] ?? "");
    this.headersSent = true;
    this.statusCode = status;
    this.#connection.moved();
    this.#isBare = this.#isHead || hasNoBody(status);
    let hasLength = false;
    let hasDate = false;
    let head = `HTTP/1.1 ${status} ${phrase}\r\n`;
    for (let at = 0; at < headers.length; at += 2) {
      const name = headers[at] ?? "";
      const value = headers[at + 1] ?? "";
      if (name.length === 4) hasDate ||= name.toLowerCase() === "date";
      else if (name.length === 14) hasLength ||= name.toLowerCase() === "content-length";
      else if (name.length === 10 && name.toLowerCase() === "connection") {
        this.#isLast ||= value.toLowerCase() === "close";
        continue;
      }
      head += `${name}: ${value}\r\n`;
    }
    this.#isLast ||= this.#connection.isLeaving;
    this.#isChunked = !hasLength && !this.#isBare;
    if (!hasDate) head += dateLine();
    if (this.#isChunked) head += "Transfer-Encoding: chunked\r\n";
    this.#held = this.#isLast
      ? `${head}Connection: close\r\n\r\n`
      : `${head}Connection: keep-alive\r\nKeep-Alive: timeout=${this.#connection.keepAliveSeconds}\r\n\r\n`;
  }

  /** False when the client has to catch up first. */
  write(bytes: Buffer): boolean {
    if (this.#isOver) return true;
    this.#connection.moved();
    const { socket } = this;
    const before = this.#held;
    this.#held = "";
    if (this.#isBare || bytes.length === 0) return before === "" || socket.write(before, "latin1");
    const size = this.#isChunked ? `${bytes.length.toString(16)}\r\n` : "";
    const after = this.#isChunked ? "\r\n" : "";
    if (bytes.length <= joinedBytes)
      return socket.write(before + size + bytes.toString("latin1") + after, "latin1");
    if (before + size === "") return socket.write(bytes);
    socket.cork();
    socket.write(before + size, "latin1");
    let isTaken = socket.write(bytes);
    if (after !== "") isTaken = socket.write(after, "latin1");
    socket.uncork();
    return isTaken;
  }

  /** @param trailers only where the answer has no length */
  addTrailers(trailers: readonly (readonly [string, string])[]): void {
    for (const [name, value] of trailers) this.#trailers += `${name}: ${value}\r\n`;
  }

  /** @param body of one byte a character */
  end(body = ""): void {
    if (this.#isOver) return;
    this.#isOver = true;
    let last = this.#held;
    if (!this.#isBare) {
      if (!this.#isChunked) last += body;
      else if (body !== "") last += `${body.length.toString(16)}\r\n${body}\r\n`;
      if (this.#isChunked) last += `0\r\n${this.#trailers}\r\n`;
    }
    if (last !== "") this.socket.write(last, "latin1");
    this.#connection.answered(this, this.#isLast);
  }

  destroy(): void {
    this.socket.destroy();
  }
}

let dateAtSecond = 0;
let date = "";

/** The same for all answers of a second. */
function dateLine(): string {
  const nowMs = Date.now();
  const second = Math.floor(nowMs / 1000);
  if (second !== dateAtSecond) {
    dateAtSecond = second;
    date = `Date: ${new Date(nowMs).toUTCString()}\r\n`;
  }
  return date;
}
