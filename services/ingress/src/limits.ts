/** Every limit of the front door, each with its default. Times are milliseconds, sizes are bytes. */

const kib = 1024;
const gib = 1024 ** 3;

export const defaultLimits = {
  /** Of the request line and all headers; more is answered with 431. */
  headerBytes: 32 * kib,
  headers: 128,
  /** From the first byte of a connection, or of the next request on it, to the end of the headers. */
  headersMs: 15_000,
  /** More is answered with 413. Bodies are streamed, so this is no question of memory. */
  bodyBytes: 16 * gib,
  /** In which a request or response moves no byte, at either side. */
  idleMs: 120_000,
  /** For the first byte of a guest's answer, so that long polls live. */
  answerMs: 300_000,
  /** A connection between two requests. */
  keepAliveMs: 75_000,
  /** A WebSocket, or raw TCP, on which nothing moves. */
  tunnelIdleMs: 3_600_000,
  /** What a client may still send after it was answered, before its connection is closed. */
  lingerMs: 2_000,
  /** All connections of this host's door, and those of one address (IPv6: one /64). */
  connections: 20_000,
  connectionsPerSource: 2_000,
  /** Streams of one HTTP/2 connection, and resets of streams that a client may do in ten seconds. */
  streams: 128,
  streamResets: 200,
  /** What is under way for a stream that the door does not read yet, and for a connection. */
  http2WindowBytes: 256 * kib,
  http2ConnectionWindowBytes: 1024 * kib,
  /** MiB of state that Node holds for one connection of HTTP/2. */
  http2SessionMib: 16,
  tlsHandshakeMs: 10_000,
  /** To a guest. A second machine is tried in the same request, so this is short. */
  connectMs: 3_000,
  /** Idle connections to guests close before most servers (Node: 5 s) would. */
  guestKeepAliveMs: 4_000,
  guestConnections: 512,
  /** Connections of HTTP/2 to one service of a machine, and streams on each where the guest allows more. */
  guestHttp2Connections: 16,
  guestStreams: 256,
  /** Of a request's body, while no guest has answered: so much can be sent again to one that says it did not act on it. */
  keptBodyBytes: 16 * kib,
  /** Machines tried for one request. */
  attempts: 3,
  /** A machine that could not be connected to is passed over for so long. */
  avoidMs: 1_000,
  /** So are all machines of an app on a host that did not answer. */
  avoidHostMs: 5_000,
  /** A machine that has just become ready may not listen yet: connecting is tried again, so often and for so long. */
  settleMs: 10_000,
  settleRetryMs: 100,
  /** Requests of one app that wait for a machine, and for how long each. */
  waiting: 2_000,
  waitMs: 60_000,
  /** For the command that starts a machine; that it is ready is `waitMs`. */
  startMs: 10_000,
  /** A service that may stop its machines has one stopped that had no request for so long. */
  autostopMs: 300_000,
  autostopCheckMs: 10_000,
  /** The doors of other hosts are told so often which of their machines are in use from here. */
  tellUsedMs: 20_000,
  tellUsedLimitMs: 5_000,
  /** On the way down: requests under way are waited for. */
  drainMs: 3_000,
  /** Apps with numbers of their own in the metrics; those that come later are counted together. */
  metricApps: 500,
  /** Public ports that are open for raw TCP at a time. */
  tcpPorts: 1_024,
} as const;

export type IngressLimits = { readonly [name in keyof typeof defaultLimits]: number };
