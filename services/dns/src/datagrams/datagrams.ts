/**
 * A bound UDP socket whose datagrams come and go by the batch, in memory that does not change. There are two, which do
 * the same: one by a native part that asks the kernel for many at once, and one by `node:dgram`, for hosts that the
 * native part was not built for. docs/rfd/0022-datagrams-in-batches.md says what the first is worth.
 */
import type { Lanes } from "./lanes.ts";
import { loadNative, openNative } from "./native-datagrams.ts";
import { openNode } from "./node-datagrams.ts";

export interface DatagramHandler {
  /** So many slots of what came in are filled, from the first on. They hold until it returns. */
  received(count: number): void;
  /** So many datagrams were lost: the kernel did not take them, or could not give them. */
  lost(count: number): void;
}

export interface Datagrams extends Lanes {
  readonly port: number;
  /** Sends the first slots of what goes out, which are free when it returns. Never waits. */
  send(count: number): void;
  /** Nothing is received once it was called. */
  close(): Promise<void>;
}

export interface DatagramOptions {
  readonly address: string;
  readonly port: number;
  /** Asked of the kernel, which may give less. */
  readonly receiveBufferBytes: number;
  readonly handler: DatagramHandler;
}

export type OpenDatagrams = (options: DatagramOptions) => Promise<Datagrams>;

export interface DatagramWay {
  readonly way: "batches" | "single";
  /** Rejects with what `bind` says, such as EADDRINUSE as `code`. */
  readonly open: OpenDatagrams;
  /** Why it is not the better one. */
  readonly reason?: string;
}

/** @param nativePath of the native part, when there is one */
export function datagramWay(nativePath: string | undefined): DatagramWay {
  if (nativePath === undefined) return { way: "single", open: openNode, reason: "none is named" };
  try {
    const native = loadNative(nativePath);
    return { way: "batches", open: async (options) => openNative(native, options) };
  } catch (error) {
    return { way: "single", open: openNode, reason: String(error) };
  }
}
