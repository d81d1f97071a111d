/**
 * Random reads of a file with few system calls. Headers and small files of a layer are mostly read in the
 * order in which they lie, so a read that goes on where the last one was takes a window ahead; a read that
 * jumps takes only what it needs.
 */
import type { FileHandle } from "node:fs/promises";

const windowBytes = 256 * 1024;
const jumpBytes = 4096;

export class WindowReader {
  readonly #file: FileHandle;
  #window: Buffer = Buffer.alloc(0);
  #start = 0;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /** `size` bytes at `offset`, fewer at the end of the file. The buffer is never written to again. */
  async read(offset: number, size: number): Promise<Buffer> {
    const from = offset - this.#start;
    if (from >= 0 && from + size <= this.#window.length) return this.#window.subarray(from, from + size);
    const follows = from >= 0 && from <= this.#window.length + jumpBytes;
    const target = Buffer.allocUnsafe(Math.max(size, follows ? windowBytes : jumpBytes));
    let filled = 0;
    while (filled < size) {
      const { bytesRead } = await this.#file.read(target, filled, target.length - filled, offset + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    this.#window = target.subarray(0, filled);
    this.#start = offset;
    return target.subarray(0, Math.min(size, filled));
  }
}
