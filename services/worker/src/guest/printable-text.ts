/** Printable text only: what a guest says is read by people in terminals. */
export const printableText = (bytes: Uint8Array | string, maxLength: number): string =>
  Buffer.from(bytes)
    .toString("latin1")
    .replaceAll(/[^\n\x20-\x7e]/g, "")
    .trim()
    .slice(0, maxLength);
