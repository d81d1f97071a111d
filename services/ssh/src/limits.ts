/** The limits of the listener, all of them. docs/ssh.md has them as a table. */
export interface SshLimits {
  /** All connections of this process, whoever has them. */
  readonly connections: number;
  readonly connectionsPerSource: number;
  /** From the first byte until who calls is known. */
  readonly loginWithinMs: number;
  /** Keys that a client may offer; a client with a full agent offers many. */
  readonly loginAttempts: number;
  /** Sessions and forwarded connections of one connection together. */
  readonly channels: number;
  /** A connection without a byte in either direction; a client's ServerAliveInterval keeps its connection. */
  readonly idleMs: number;
  /** Until a forwarded connection stands. */
  readonly forwardWithinMs: number;
  /** A client has so long to take leave when the gateway ends its connection. */
  readonly leaveWithinMs: number;
  /** How often a connection is held against the end of its token. */
  readonly recheckMs: number;
  /** Files and directories that one sftp session has open. */
  readonly sftpHandles: number;
  /** Calls of one sftp session that wait for their answer, and the bytes that came with them. */
  readonly sftpWaiting: number;
  /** Variables that a client may set in a session, and the bytes of each. */
  readonly variables: number;
  readonly variableBytes: number;
}

export const defaultLimits: SshLimits = {
  connections: 256,
  connectionsPerSource: 32,
  loginWithinMs: 30_000,
  loginAttempts: 12,
  channels: 16,
  idleMs: 4 * 3_600_000,
  forwardWithinMs: 10_000,
  leaveWithinMs: 1_000,
  recheckMs: 5_000,
  sftpHandles: 64,
  sftpWaiting: 256,
  variables: 32,
  variableBytes: 4096,
};
