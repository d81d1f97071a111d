/**
 * What a tool or a test has made on the host and takes away in its end, taken away also when its process is ended before:
 * by a Ctrl-C, or by a test runner that stops its files. Namespaces, firewall tables and processes of others do not go
 * with the process that made them.
 */
const made = new Set<() => Promise<unknown>>();
const stoppedCode = 130;
let isEnding = false;

function undoAll(): void {
  isEnding = true;
  const undoing = [...made].map(async (undo) => await undo());
  made.clear();
  void Promise.allSettled(undoing).finally(() => process.exit(stoppedCode));
}

/**
 * To be called before anything is made. Dispose of what is returned when all of it has been taken away. The first use
 * takes SIGINT and SIGTERM for this.
 * @throws Error while the process is being ended: what is made then would stay
 */
export function leaveNothing(undo: () => Promise<unknown>): Disposable {
  if (isEnding) throw new Error("The process is being ended; nothing more is made on the host.");
  if (made.size === 0) for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, undoAll);
  made.add(undo);
  return {
    [Symbol.dispose]() {
      if (!made.delete(undo) || made.size > 0) return;
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, undoAll);
    },
  };
}
