/**
 * The streams that a worker serves over the bus, with the shape of the request that opens each.
 *
 * exec, attach: messages are the frames of exec-frames.ts in both directions.
 * logs:         the worker sends one JSON LogEntry a message.
 * file-read:    the worker sends the file's bytes.
 * file-write:   the caller sends the file's bytes and ends its side; the worker ends when the file is there.
 */
import { HearthError } from "@hearth/errors";
import Type from "typebox";
import Value from "typebox/value";

const closed = { additionalProperties: false } as const;
const opt = Type.Optional;
const machine = { machine_id: Type.String({ pattern: "^[0-9a-f]{14}$" }) };
const cells = Type.Integer({ minimum: 1, maximum: 65_535 });
export const GuestPath = Type.String({ minLength: 1, maxLength: 4096, pattern: "^/[^\\u0000]*$" });

export const ExecStart = Type.Object(
  {
    ...machine,
    command: Type.Array(Type.String({ maxLength: 131_072 }), { minItems: 1, maxItems: 4096 }),
    user: opt(Type.String({ maxLength: 256 })),
    workdir: opt(Type.String({ maxLength: 4096 })),
    env: opt(Type.Record(Type.String(), Type.String())),
    /** With it the program gets a terminal, and all its output is on the channel `stdout`. */
    tty: opt(Type.Object({ cols: cells, rows: cells }, closed)),
    /** Without it the program's standard input is empty. */
    stdin: opt(Type.Boolean()),
  },
  closed,
);
export type ExecStart = Type.Static<typeof ExecStart>;

export const workerStreams = {
  exec: ExecStart,
  attach: Type.Object({ ...machine, stdin: opt(Type.Boolean()) }, closed),
  logs: Type.Object(
    { ...machine, follow: opt(Type.Boolean()), tail: opt(Type.Integer({ minimum: 0, maximum: 100_000 })) },
    closed,
  ),
  "file-read": Type.Object({ ...machine, path: GuestPath }, closed),
  "file-write": Type.Object(
    { ...machine, path: GuestPath, mode: opt(Type.Integer({ minimum: 0, maximum: 0o7777 })) },
    closed,
  ),
} as const;

export type WorkerStreamName = keyof typeof workerStreams;
export type WorkerStreamRequest<Name extends WorkerStreamName> = Type.Static<(typeof workerStreams)[Name]>;

export interface LogEntry {
  /** Grows by one a chunk; a gap is output that was lost. Starts again with each instance. */
  readonly seq: number;
  readonly timestamp: string;
  readonly stream: "stdout" | "stderr" | "hearth";
  /** Bytes of the program as base64: a chunk may end within a line or a character. */
  readonly data: string;
}

/** @throws HearthError `invalid_argument` */
export function parseStreamRequest<Name extends WorkerStreamName>(
  name: Name,
  request: unknown,
): WorkerStreamRequest<Name> {
  const schema: Type.TSchema = workerStreams[name];
  if (Value.Check(schema, request)) return request as WorkerStreamRequest<Name>;
  const [problem] = Value.Errors(schema, request);
  throw new HearthError("invalid_argument", {
    message: `${name}: ${problem?.instancePath || "request"} ${problem?.message ?? "is not valid"}.`,
    details: { stream: name, field: problem?.instancePath || "request" },
  });
}
