/**
 * Reads what came at once from a client, for all connections: either it is one whole request without a body, or it is
 * somebody else's to read. Nothing of one connection is left in it for the next.
 */
import type { IngressLimits } from "../limits.ts";
import { type MessageHead, MessageParser } from "./message-parser.ts";

export interface WholeRequest {
  readonly method: string;
  readonly url: string;
  /** Name, value, name, value. */
  readonly headers: string[];
}

export class WholeRequests {
  readonly #parser: MessageParser;
  readonly #maxHeaders: number;
  readonly #methods = numbersOfMethods();
  #head: MessageHead | undefined;
  #begins = 0;
  #heads = 0;
  #ends = 0;
  #hasBody = false;

  constructor(limits: IngressLimits) {
    this.#maxHeaders = limits.headers;
    this.#parser = new MessageParser("request", limits.headerBytes, {
      onBegin: () => {
        this.#begins += 1;
      },
      onHead: (head) => {
        this.#head = head;
        this.#heads += 1;
        return false;
      },
      onBody: () => {
        this.#hasBody = true;
      },
      onEnd: () => {
        this.#ends += 1;
      },
    });
  }

  /** One request without a body, on a connection that stays; undefined when it is anything else. */
  read(bytes: Uint8Array): WholeRequest | undefined {
    this.#begins = 0;
    this.#heads = 0;
    this.#ends = 0;
    this.#hasBody = false;
    const problem = this.#parser.read(bytes);
    const head = this.#head;
    this.#head = undefined;
    const isOne =
      problem === undefined && this.#begins === 1 && this.#heads === 1 && this.#ends === 1 && !this.#hasBody;
    const method = this.#methods.get(head?.method ?? -1);
    if (isOne && method !== undefined && head !== undefined && this.#isShort(head))
      return { method, url: head.url ?? "", headers: head.headers };
    this.#parser.reset();
    return undefined;
  }

  #isShort({ headers, minorVersion, isUpgrade, keepAlive }: MessageHead): boolean {
    if (minorVersion !== 1 || isUpgrade || !keepAlive) return false;
    if (headers.length > 2 * this.#maxHeaders) return false;
    for (let at = 0; at < headers.length; at += 2) {
      const { length } = headers[at] ?? "";
      if (length !== 6 && length !== 17) continue;
      const name = headers[at]?.toLowerCase();
      if (name === "expect" || name === "transfer-encoding") return false;
    }
    return true;
  }
}

/** Node's parser tells a method by a number, which it alone knows. */
function numbersOfMethods(): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  const nothing = (): void => undefined;
  for (const name of ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]) {
    const onHead = ({ method }: MessageHead): boolean => {
      if (method !== undefined) found.set(method, name);
      return true;
    };
    const parser = new MessageParser("request", 1_024, {
      onBegin: nothing,
      onHead,
      onBody: nothing,
      onEnd: nothing,
    });
    parser.read(Buffer.from(`${name} / HTTP/1.1\r\nhost: x\r\n\r\n`, "latin1"));
    parser.close();
  }
  return found;
}
