/**
 * HTTP/1.1 read by the parser of Node's own `http`: the same strictness, without the streams around it. It takes bytes
 * where they lie and tells what they mean by calls, within the call that gave them.
 *
 * The module is Node's and undocumented; the version of Node is pinned (package.json), and message-parser.test.ts says
 * what is relied on.
 */
import { HTTPParser } from "node:_http_common";

export interface MessageHead {
  /** Name, value, name, value. */
  readonly headers: string[];
  /** Of a request: Node's number of the method. */
  readonly method: number | undefined;
  readonly url: string | undefined;
  readonly status: number | undefined;
  readonly statusText: string | undefined;
  readonly minorVersion: number;
  /** The connection is to be another protocol's. */
  readonly isUpgrade: boolean;
  readonly keepAlive: boolean;
}

export interface MessageListener {
  /** At its first byte. */
  onBegin(): void;
  /** True where no body follows, whatever the head says, as in the answer to HEAD. */
  onHead(head: MessageHead): boolean;
  onBody(bytes: Buffer): void;
  /** @param trailers name, value, name, value */
  onEnd(trailers: string[]): void;
}

type Kind = "request" | "response";

export class MessageParser {
  readonly #parser = new HTTPParser();
  readonly #kind: Kind;
  readonly #maxHeaderBytes: number;
  /** What came before the head was whole, as of 32 headers the binding tells at once; and then the trailers. */
  #headers: string[] = [];
  #url = "";
  #isClosed = false;

  constructor(kind: Kind, maxHeaderBytes: number, listener: MessageListener) {
    this.#kind = kind;
    this.#maxHeaderBytes = maxHeaderBytes;
    const parser = this.#parser;
    parser[HTTPParser.kOnMessageBegin] = (): void => listener.onBegin();
    parser[HTTPParser.kOnHeaders] = (headers: string[], url: string): void => {
      this.#headers.push(...headers);
      this.#url += url;
    };
    // Spelled out: with a list of arguments each call would make one.
    parser[HTTPParser.kOnHeadersComplete] = (
      _major: number,
      minorVersion: number,
      headers: string[] | undefined,
      method: number | undefined,
      url: string | undefined,
      status: number | undefined,
      statusText: string | undefined,
      isUpgrade: boolean,
      keepAlive: boolean,
    ): number => {
      const head: MessageHead = {
        headers: headers ?? this.#headers,
        method,
        url: headers === undefined ? this.#url : url,
        status,
        statusText,
        minorVersion,
        isUpgrade,
        keepAlive,
      };
      this.#forget();
      return listener.onHead(head) ? 1 : 0;
    };
    parser[HTTPParser.kOnBody] = (bytes: Buffer): void => listener.onBody(bytes);
    parser[HTTPParser.kOnMessageComplete] = (): void => {
      const trailers = this.#headers;
      this.#forget();
      listener.onEnd(trailers);
    };
    this.reset();
  }

  /** For another connection, or after what was wrong. */
  reset(): void {
    this.#forget();
    const type = this.#kind === "request" ? HTTPParser.REQUEST : HTTPParser.RESPONSE;
    this.#parser.initialize(type, {}, this.#maxHeaderBytes);
  }

  /** What is wrong, by a code that begins with `HPE_`. The bytes may be written over when it returns. */
  read(bytes: Uint8Array): (Error & { readonly code: string }) | undefined {
    const result = this.#parser.execute(bytes);
    return typeof result === "number" ? undefined : result;
  }

  /** The other side has ended. Undefined where a message may end so, which is then told. */
  end(): Error | undefined {
    return this.#parser.finish();
  }

  /** It holds memory that nothing else gives back. May be called while it reads. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    setImmediate(() => this.#parser.close());
  }

  #forget(): void {
    if (this.#headers.length > 0) this.#headers = [];
    this.#url = "";
  }
}
