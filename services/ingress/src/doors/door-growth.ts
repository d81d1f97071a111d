/**
 * How many processes the front door has: pure. A host that has little to do has one, which is what an idle host can
 * spare; another one begins when those that are there are at work most of the time, and goes when they were not for a
 * while. An operator's number is kept as it is.
 */

export interface GrowthRule {
  readonly most: number;
  /** As many as may be, from the start. */
  readonly isFixed: boolean;
  /** Shares of a second that the processes were at work, on average. */
  readonly busyShare: number;
  readonly idleShare: number;
  /** For how many seconds in a row. */
  readonly busySeconds: number;
  readonly idleSeconds: number;
}

export const defaultGrowth = {
  busyShare: 0.6,
  // Below it, one process less would still not be busy.
  idleShare: 0.2,
  busySeconds: 3,
  idleSeconds: 300,
} as const;

export interface GrowthState {
  readonly wanted: number;
  /** Seconds in a row: above zero it was busy, below it was idle. */
  readonly run: number;
}

export const firstGrowth = ({ most, isFixed }: Pick<GrowthRule, "most" | "isFixed">): GrowthState => ({
  wanted: isFixed ? most : 1,
  run: 0,
});

/**
 * After another second.
 * @param shares of each process that serves
 */
export function grow(state: GrowthState, shares: readonly number[], rule: GrowthRule): GrowthState {
  if (rule.isFixed || shares.length === 0) return state;
  const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
  const { wanted } = state;
  if (mean >= rule.busyShare) {
    const run = Math.max(0, state.run) + 1;
    // One that has been asked for and does not serve yet is waited for.
    if (run >= rule.busySeconds && wanted < rule.most && shares.length >= wanted)
      return { wanted: wanted + 1, run: 0 };
    return { wanted, run };
  }
  if (mean <= rule.idleShare) {
    const run = Math.min(0, state.run) - 1;
    if (-run >= rule.idleSeconds && wanted > 1) return { wanted: wanted - 1, run: 0 };
    return { wanted, run };
  }
  return { wanted, run: 0 };
}
