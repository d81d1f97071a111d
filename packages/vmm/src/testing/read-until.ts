import type { Duplex } from "node:stream";

const limitMs = 30_000;

/** Reads until the text occurs. */
export async function readUntil(stream: Duplex, text: string): Promise<string> {
  let seen = "";
  const signal = AbortSignal.timeout(limitMs);
  return await new Promise((resolve, reject) => {
    const done = (act: () => void) => {
      // Without this the stream flows on, and what arrives before the next reader is lost.
      stream.pause();
      stream.off("data", onData).off("close", onClose);
      signal.removeEventListener("abort", onClose);
      act();
    };
    const onClose = () =>
      done(() => reject(new Error(`no ${JSON.stringify(text)} in ${JSON.stringify(seen)}`)));
    const onData = (chunk: Buffer) => {
      seen += chunk.toString("latin1");
      if (seen.includes(text)) done(() => resolve(seen));
    };
    stream.on("data", onData).on("close", onClose);
    stream.resume();
    signal.addEventListener("abort", onClose);
  });
}
