/**
 * What SQLite said when it could not do its work, told apart: a database that cannot be written now, and one that
 * is damaged. Source: the primary result codes of SQLite, https://sqlite.org/rescode.html.
 */
import { HearthError } from "@hearth/errors";

export type DatabaseFault = "unwritable" | "corrupt";

const faults: ReadonlyMap<number, DatabaseFault> = new Map([
  [8, "unwritable"], // SQLITE_READONLY
  [10, "unwritable"], // SQLITE_IOERR
  [11, "corrupt"], // SQLITE_CORRUPT
  [13, "unwritable"], // SQLITE_FULL
  [14, "unwritable"], // SQLITE_CANTOPEN: of the files beside it
  [26, "corrupt"], // SQLITE_NOTADB
]);

/** Undefined for what is no fault of the database. An error that wraps one counts as it. */
export function databaseFault(thrown: unknown): DatabaseFault | undefined {
  if (!(thrown instanceof Error)) return undefined;
  const { code, errcode } = thrown as { code?: unknown; errcode?: unknown };
  if (code === "ERR_SQLITE_ERROR" && typeof errcode === "number") return faults.get(errcode & 0xff);
  if (thrown instanceof HearthError && thrown.code === "database_unwritable") return "unwritable";
  if (thrown instanceof HearthError && thrown.code === "database_corrupt") return "corrupt";
  return databaseFault(thrown.cause);
}

export function databaseCorrupt(path: string, found: string, cause?: unknown): HearthError {
  return new HearthError("database_corrupt", {
    message: `The worker's database ${path} is damaged (${found}); nothing of it was changed and its machines run on. Put back a copy of it, or what \`sqlite3 ${path} .recover\` saves; do not remove it, because a worker without it ends machines that it does not know.`,
    details: { path },
    cause,
  });
}

export function databaseUnwritable(reason: string, cause?: unknown): HearthError {
  return new HearthError("database_unwritable", {
    message: `The worker's database cannot be written (${reason}), so this node takes no work; its machines run on. Make room on its disk or make it writable; the worker then goes on by itself.`,
    cause,
  });
}

/** What SQLite itself said. */
export function faultReason(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  return thrown.cause instanceof Error ? faultReason(thrown.cause) : thrown.message;
}

/** What a person is to be told of it; what is no fault of the database stays as it is. */
export function databaseError(path: string, thrown: unknown): unknown {
  const fault = databaseFault(thrown);
  if (fault === undefined || thrown instanceof HearthError) return thrown;
  const reason = faultReason(thrown);
  return fault === "corrupt" ? databaseCorrupt(path, reason, thrown) : databaseUnwritable(reason, thrown);
}
