/** The version of this Hearth, as the package files have it; a test compares them. */
export const hearthVersion = "0.1.0";

/** Negative when `a` is older than `b`. What is not a version is older than everything. */
export function compareVersions(a: string, b: string): number {
  const parts = (text: string): number[] => (/^(\d+)\.(\d+)\.(\d+)/.exec(text) ?? []).slice(1).map(Number);
  const [left, right] = [parts(a), parts(b)];
  for (const index of [0, 1, 2]) {
    const difference = (left[index] ?? -1) - (right[index] ?? -1);
    if (difference !== 0) return difference;
  }
  return 0;
}
