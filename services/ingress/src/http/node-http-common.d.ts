/** Node's binding of llhttp, by which its own `http` reads; it has no types, as it is no documented module. */
declare module "node:_http_common" {
  export class HTTPParser {
    static readonly REQUEST: number;
    static readonly RESPONSE: number;
    static readonly kOnMessageBegin: number;
    static readonly kOnHeaders: number;
    static readonly kOnHeadersComplete: number;
    static readonly kOnBody: number;
    static readonly kOnMessageComplete: number;
    [callback: number]: ((...facts: never[]) => unknown) | undefined;
    initialize(type: number, resource: object, maxHeaderSize: number): void;
    /** How many bytes it took, or what is wrong; it throws nothing but what a callback throws. */
    execute(bytes: Uint8Array): number | (Error & { readonly code: string });
    /** The other side has ended: undefined where a message may end so. */
    finish(): undefined | (Error & { readonly code: string });
    /** Not from within a callback. Without it the parser is never given back. */
    close(): void;
  }
}
