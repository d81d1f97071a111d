/**
 * Durations as clients of the Machines API write them: Go duration strings (https://pkg.go.dev/time#ParseDuration),
 * whole nanoseconds as a number, seconds as a bare string of digits, and `{"time.Duration": n}`.
 * Inside Hearth a duration is a number of milliseconds; answers use Go strings.
 */
import { HearthError } from "@hearth/errors";
import Type from "typebox";

export const DurationInput = Type.Union([
  Type.String(),
  Type.Integer({ minimum: 0 }),
  Type.Object({ "time.Duration": Type.Integer({ minimum: 0 }) }, { additionalProperties: false }),
]);
export type DurationInput = Type.Static<typeof DurationInput>;

const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  "\u00b5s": 1e-3,
  "\u03bcs": 1e-3,
  ms: 1,
  s: 1e3,
  m: 60e3,
  h: 3600e3,
};
const goDuration = /^\+?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h))+$/;
const goPart = /(\d+\.?\d*|\.\d+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)/g;
// What fits in Go's 64-bit nanoseconds: about 292 years.
const limitMs = 9_223_372_036_854;

/** @throws HearthError `invalid_argument`, naming `field`, for what is no duration, negative or too long. */
export function parseDurationMs(input: unknown, field: string): number {
  const ms = durationMs(input);
  if (ms !== undefined && ms >= 0 && ms <= limitMs) return ms;
  throw new HearthError("invalid_argument", {
    message: `${field} is not a duration; write it like "30s" or as whole nanoseconds.`,
    details: { field },
  });
}

function durationMs(input: unknown): number | undefined {
  if (typeof input === "number") return Number.isInteger(input) ? input / 1e6 : undefined;
  if (typeof input === "string") return textMs(input.trim());
  if (typeof input !== "object" || input === null || !("time.Duration" in input)) return undefined;
  const wrapped = input["time.Duration"];
  return typeof wrapped === "number" ? durationMs(wrapped) : undefined;
}

function textMs(text: string): number | undefined {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1e3;
  if (!goDuration.test(text)) return undefined;
  let total = 0;
  for (const [, amount = "", unit = ""] of text.matchAll(goPart))
    total += Number(amount) * (unitMs[unit] ?? Number.NaN);
  return total;
}

/** A Go duration string of whole nanoseconds: `1h0m0s`, `1.5s`, `250ms`, `0s`. */
export function formatGoDuration(ms: number): string {
  const ns = Math.round(ms * 1e6);
  if (ns === 0) return "0s";
  if (ns < 1e3) return `${ns}ns`;
  if (ns < 1e6) return `${ns / 1e3}us`;
  if (ns < 1e9) return `${ns / 1e6}ms`;
  const hours = Math.floor(ns / 3600e9);
  const minutes = Math.floor((ns % 3600e9) / 60e9);
  const seconds = (ns % 60e9) / 1e9;
  if (hours > 0) return `${hours}h${minutes}m${seconds}s`;
  return minutes > 0 ? `${minutes}m${seconds}s` : `${seconds}s`;
}
