/** The middle of the values, rounded to this many decimal places. */
export function medianOf(values: readonly number[], places = 1): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  const median = sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
  return Math.round(median * 10 ** places) / 10 ** places;
}
