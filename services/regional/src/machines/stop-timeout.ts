/**
 * How long a stop may take, as clients write it: seconds as text or number, a Go duration, or nanoseconds as
 * `{"time.Duration": n}`. A number beyond any sensible stop is nanoseconds too, which Go clients send. Zero is
 * what those clients send when nothing was asked for, so then the machine's own stop_config counts.
 */
import { type DurationInput, parseDurationMs } from "@hearth/machine";

const longestSeconds = 1_000_000;

/** @throws HearthError `invalid_argument` */
export function parseStopTimeoutMs(input: DurationInput | undefined, field = "timeout"): number | undefined {
  if (input === undefined || input === "") return undefined;
  const asSeconds = typeof input === "number" && input < longestSeconds;
  const ms = asSeconds ? input * 1000 : parseDurationMs(input, field);
  return ms === 0 ? undefined : Math.ceil(ms);
}
