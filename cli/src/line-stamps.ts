/** Puts a time before each line of streams whose chunks end anywhere. */
const newline = 0x0a;

export class LineStamps {
  /** Streams whose last chunk ended within a line. */
  readonly #within = new Set<string>();

  add(stream: string, timestamp: string, data: Uint8Array): Buffer {
    const stamp = Buffer.from(`${timestamp} `);
    const parts: Uint8Array[] = [];
    let from = 0;
    while (from < data.length) {
      const at = data.indexOf(newline, from);
      const end = at < 0 ? data.length : at + 1;
      if (!this.#within.has(stream)) parts.push(stamp);
      parts.push(data.subarray(from, end));
      if (at < 0) this.#within.add(stream);
      else this.#within.delete(stream);
      from = end;
    }
    return Buffer.concat(parts);
  }
}
