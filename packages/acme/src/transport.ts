/** How the authority is reached. Everything that it sends is bounded in size and in time. */
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { HearthError } from "@hearth/errors";

export interface AcmeAnswer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

export interface AcmeCall {
  readonly method: "GET" | "HEAD" | "POST";
  readonly url: string;
  readonly body?: string;
  readonly signal?: AbortSignal | undefined;
}

/** @throws HearthError `unavailable` when there was no whole answer */
export type AcmeTransport = (call: AcmeCall) => Promise<AcmeAnswer>;

const limitMs = 30_000;
const maxBytes = 256 * 1024;

/** @param trusted PEM of who may sign for the directory itself; the roots of Node when absent */
export const httpsTransport =
  ({ trusted }: { readonly trusted?: string | undefined } = {}): AcmeTransport =>
  ({ method, url, body, signal }) => {
    const { promise, resolve, reject } = Promise.withResolvers<AcmeAnswer>();
    const fail = (cause: Error): void => {
      const why = "code" in cause ? String(cause.code) : cause.message;
      reject(
        new HearthError("unavailable", {
          message: `The certificate authority at ${hostOf(url)} does not answer (${why}).`,
          cause,
        }),
      );
    };
    const limit = AbortSignal.timeout(limitMs);
    if (!url.startsWith("https://")) {
      fail(new Error("it is not reached by https"));
      return promise;
    }
    const outgoing = request(url, {
      method,
      headers: {
        "user-agent": "hearth",
        ...(body === undefined
          ? {}
          : { "content-type": "application/jose+json", "content-length": Buffer.byteLength(body) }),
      },
      ...(trusted === undefined ? {} : { ca: trusted }),
      signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
    });
    outgoing.once("error", fail).once("response", (answer) => {
      let text = "";
      answer
        .setEncoding("utf8")
        .on("data", (chunk: string) => {
          text += chunk;
          if (text.length > maxBytes) answer.destroy(new Error("its answer is too long"));
        })
        .once("error", fail)
        .once("end", () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: text }));
    });
    outgoing.end(body);
    return promise;
  };

function hostOf(url: string): string {
  try {
    return new URL(url).host;
  } catch {
    return "a broken URL";
  }
}
