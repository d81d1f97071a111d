/** What one asker may have, so that none takes the service from the others. */
export interface SourceLimits {
  readonly queriesPerSecond: number;
  /** Asked at once after a silence. */
  readonly burst: number;
  /** Of other people's names, waiting for an upstream resolver. */
  readonly inFlight: number;
  readonly tcpConnections: number;
}

export const guestLimits: SourceLimits = {
  ...{ queriesPerSecond: 2_000, burst: 4_000, inFlight: 64, tcpConnections: 16 },
};

/** The host itself is trusted, and yet is no reason to run out of memory. */
export const hostLimits: SourceLimits = {
  ...{ queriesPerSecond: Number.POSITIVE_INFINITY, burst: Number.POSITIVE_INFINITY },
  ...{ inFlight: 256, tcpConnections: 64 },
};
