/** Clients of a front door, for the tests of this service. */
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { text } from "node:stream/consumers";

export const testHost = "web.example.test";

/** A request whose body the test writes itself. */
export function begin(port: number, options: RequestOptions = {}) {
  const headers = { host: testHost, ...options.headers };
  const asking = httpRequest({ port, host: "127.0.0.1", ...options, headers });
  const answer = once(asking, "response").then(([got]) => got as IncomingMessage);
  answer.catch(() => undefined);
  return { asking, answer };
}

export async function ask(port: number, options: RequestOptions = {}, body?: string) {
  const { asking, answer } = begin(port, options);
  asking.end(body);
  const got = await answer;
  return { status: got.statusCode, headers: got.headers, body: await text(got), trailers: got.trailers };
}
