import type { JsMsg } from "@nats-io/jetstream";
import { tombstoneHeader } from "./fact-version.ts";

/** A value that cannot be read counts as none: one bad writer must not stop every replica for ever. */
export function readValue(
  message: JsMsg,
  onError?: (error: unknown) => void,
): { readonly text: string | null; readonly value: unknown } {
  const none = { text: null, value: undefined };
  if (message.headers?.has(tombstoneHeader)) return none;
  try {
    const text = message.string();
    return { text, value: JSON.parse(text) };
  } catch (error) {
    onError?.(error);
    return none;
  }
}
