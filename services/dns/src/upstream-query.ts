/**
 * One question to one upstream resolver. Each goes from a socket of its own, whose port the kernel draws and which
 * takes datagrams from that resolver only, and has an id drawn at random: who cannot see it cannot answer it
 * (RFC 5452).
 */
import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { createConnection, isIPv6 } from "node:net";
import { HearthError } from "@hearth/errors";
import { readUpstreamAnswer, type UpstreamAnswer } from "./upstream-answer.ts";
import { flagBits, headerBytes, maxTcpBytes, maxUdpBytes, recordTypes } from "./wire.ts";

export interface Upstream {
  readonly address: string;
  readonly port: number;
}

export interface UpstreamQuestion {
  /** As it stands in a message, without the header. */
  readonly question: Buffer;
  readonly dnssecOk: boolean;
  readonly checkingDisabled: boolean;
}

/** @throws HearthError `deadline_exceeded`, `unavailable` when nobody listens there */
export async function askUpstream(
  upstream: Upstream,
  question: UpstreamQuestion,
  timeoutMs: number,
): Promise<UpstreamAnswer> {
  const signal = AbortSignal.timeout(timeoutMs);
  const answer = await overUdp(upstream, question, signal);
  return answer.isTruncated ? await overTcp(upstream, question, signal) : answer;
}

function overUdp(to: Upstream, asked: UpstreamQuestion, signal: AbortSignal): Promise<UpstreamAnswer> {
  const { id, message } = encode(asked);
  const socket = createSocket(isIPv6(to.address) ? "udp6" : "udp4");
  return new Promise<UpstreamAnswer>((resolve, reject) => {
    const give = (error: unknown): void => reject(failure(to, error));
    const onAbort = (): void => give(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    socket.once("close", () => signal.removeEventListener("abort", onAbort));
    socket.on("error", give);
    socket.on("message", (bytes) => {
      // What is no answer to it may be a guess; the right one may still come.
      const answer = readUpstreamAnswer(bytes, id, asked.question);
      if (answer !== undefined) resolve(answer);
    });
    // A callback of `connect` would get its failure in place of the event, where there is no way to the upstream.
    socket.once("connect", () => {
      socket.send(message, (error) => {
        if (error !== null && error !== undefined) give(error);
      });
    });
    socket.connect(to.port, to.address);
  }).finally(() => socket.close());
}

function overTcp(to: Upstream, asked: UpstreamQuestion, signal: AbortSignal): Promise<UpstreamAnswer> {
  const { id, message } = encode(asked);
  const socket = createConnection({ host: to.address, port: to.port, signal });
  return new Promise<UpstreamAnswer>((resolve, reject) => {
    let received = Buffer.alloc(0);
    socket.on("error", (error) => reject(failure(to, signal.aborted ? signal.reason : error)));
    socket.on("close", () => reject(failure(to, new Error("closed without an answer"))));
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      const length = received.length < 2 ? maxTcpBytes : received.readUInt16BE(0);
      if (received.length < 2 + length) return;
      const answer = readUpstreamAnswer(received.subarray(2, 2 + length), id, asked.question);
      if (answer === undefined || answer.isTruncated)
        reject(failure(to, new Error("no answer to this question")));
      else resolve(answer);
    });
    const prefix = Buffer.alloc(2);
    prefix.writeUInt16BE(message.length);
    socket.end(Buffer.concat([prefix, message]));
  }).finally(() => socket.destroy());
}

function encode({ question, dnssecOk, checkingDisabled }: UpstreamQuestion) {
  const id = randomInt(0x10000);
  const header = Buffer.alloc(headerBytes);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(flagBits.recursionDesired | (checkingDisabled ? flagBits.checkingDisabled : 0), 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(1, 10);
  const opt = Buffer.alloc(11);
  opt.writeUInt16BE(recordTypes.OPT, 1);
  opt.writeUInt16BE(maxUdpBytes, 3);
  if (dnssecOk) opt.writeUInt8(0x80, 7);
  return { id, message: Buffer.concat([header, question, opt]) };
}

const failure = ({ address, port }: Upstream, cause: unknown): HearthError =>
  (cause as Error | undefined)?.name === "TimeoutError"
    ? new HearthError("deadline_exceeded", { details: { upstream: `${address}#${port}` }, cause })
    : new HearthError("unavailable", { details: { upstream: `${address}#${port}` }, cause });
