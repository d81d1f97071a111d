/** Signals as clients write them: `SIGTERM`, `TERM`, `15` and 15 are one. */
import { constants } from "node:os";
import Type from "typebox";
import { invalid } from "../http/validation.ts";

export const SignalInput = Type.Union([Type.String(), Type.Integer()], {
  description: "A name such as SIGTERM, or a number.",
});
export type SignalInput = Type.Static<typeof SignalInput>;

// Guests are Linux, as is whoever runs this, and the numbers are the same on the architectures that are served.
const numbers = new Map<string, number>(Object.entries(constants.signals));

/** @throws HearthError `invalid_argument` */
export function parseSignal(input: SignalInput, field: string): number {
  const number = typeof input === "number" ? input : numberOf(input.trim().toUpperCase());
  if (number !== undefined && number >= 1 && number <= 64) return number;
  throw invalid(field, "is not a signal; write a name such as SIGTERM, or a number from 1 to 64");
}

function numberOf(text: string): number | undefined {
  if (/^\d{1,2}$/.test(text)) return Number(text);
  return numbers.get(text) ?? numbers.get(`SIG${text}`);
}
