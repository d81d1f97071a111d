import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { HearthError } from "@hearth/errors";
import { databaseError, databaseFault } from "./journal/database-fault.ts";

/**
 * Two workers of one directory would both act on its machines. The lock is one of a file by the kernel, through
 * SQLite, so it ends with the process however that ends.
 * @throws HearthError `conflict`
 */
export function lockDirectory(directory: string): Disposable {
  const lock = new DatabaseSync(join(directory, "worker.lock"), { timeout: 0 });
  try {
    lock.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE");
  } catch (cause) {
    lock.close();
    if (databaseFault(cause) !== undefined) throw databaseError(directory, cause);
    throw new HearthError("conflict", { message: "Another worker has this directory; end it first.", cause });
  }
  return { [Symbol.dispose]: () => lock.close() };
}
