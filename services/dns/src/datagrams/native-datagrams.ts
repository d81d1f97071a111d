/** Datagrams by the native part of `datagrams/`, which takes them from the kernel and gives them to it in batches. */
import type { DatagramOptions, Datagrams } from "./datagrams.ts";
import { lanesOf, memoryBytes, slotBytes, slots } from "./lanes.ts";

export interface NativeDatagrams {
  open(
    ...args: [
      address: string,
      port: number,
      receiveBufferBytes: number,
      slots: number,
      slotBytes: number,
      onBatch: (count: number) => void,
    ]
  ): { readonly id: number; readonly port: number; readonly memory: ArrayBuffer };
  send(id: number, count: number): number;
  close(id: number): void;
}

/** @throws what the dynamic linker says, or when it is something else */
export function loadNative(path: string): NativeDatagrams {
  const module = { exports: {} as Partial<NativeDatagrams> };
  process.dlopen(module, path);
  const { open, send, close } = module.exports;
  if (typeof open !== "function" || typeof send !== "function" || typeof close !== "function")
    throw new Error(`${path} moves no datagrams`);
  return { open, send, close };
}

/** @throws what `bind` says */
export function openNative(native: NativeDatagrams, options: DatagramOptions): Datagrams {
  const { address, port, receiveBufferBytes, handler } = options;
  const onBatch = (count: number): void => {
    if (count < 0) handler.lost(1);
    else handler.received(count);
  };
  const opened = native.open(address, port, receiveBufferBytes, slots, slotBytes, onBatch);
  const { id, memory } = opened;
  if (memory.byteLength !== memoryBytes) {
    native.close(id);
    throw new Error("the native part has another layout of its memory");
  }
  let isOpen = true;
  return {
    ...lanesOf(memory),
    port: opened.port,
    send(count) {
      if (!isOpen) return;
      const taken = native.send(id, count);
      if (taken < count) handler.lost(count - taken);
    },
    async close() {
      isOpen = false;
      native.close(id);
    },
  };
}
