/**
 * How long each wait of a machine's runs may take: the one place that names them. A step has its own limit, and
 * the acts inside it have smaller ones, so that the step can still say why it failed.
 */
export interface StepLimits {
  /** Until the image is here: a pull of gigabytes over a slow line is no failure. */
  readonly imageMs: number;
  readonly scratchDiskMs: number;
  readonly networkSlotMs: number;
  /** Until the VM runs; its guest may still boot. */
  readonly vmmStartMs: number;
  /** From the start of the VM to the answer of its agent. */
  readonly bootMs: number;
  readonly processStartMs: number;
  /** Until the fact that a machine goes is in the stream; then, for the doors of the region to hear of it. */
  readonly trafficToldMs: number;
  readonly trafficSettleMs: number;
  /** For requests to end, at most; what `stop_config.timeout` gives the program is the limit when it is less. */
  readonly trafficDrainMs: number;
  /** Between looks whether they have, and for the guest to say so. */
  readonly trafficLookMs: number;
  readonly trafficAskMs: number;
  /** After the signal that cannot be ignored, until the program is gone. */
  readonly afterKillMs: number;
  /** For the last output of a guest. */
  readonly drainMs: number;
  /** For a guest to write down what it holds, before its VM is ended. */
  readonly powerOffMs: number;
  /** For each act that takes something off the host: the VM, a disk, a network slot. */
  readonly releaseMs: number;
  /** For an act that was told to stop, until it has: only then is it repeated or undone. */
  readonly abandonMs: number;
}

export const defaultStepLimits: StepLimits = {
  imageMs: 15 * 60_000,
  scratchDiskMs: 60_000,
  networkSlotMs: 20_000,
  vmmStartMs: 30_000,
  bootMs: 90_000,
  processStartMs: 30_000,
  trafficToldMs: 2_000,
  trafficSettleMs: 250,
  trafficDrainMs: 60_000,
  trafficLookMs: 50,
  trafficAskMs: 2_000,
  afterKillMs: 3_000,
  drainMs: 2_000,
  powerOffMs: 5_000,
  releaseMs: 30_000,
  abandonMs: 10_000,
};
