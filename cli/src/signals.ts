/** Signals to this process that are meant for the program in the machine. */
import { constants } from "node:os";

const forwarded = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;
const insistent: ReadonlySet<string> = new Set(["SIGINT", "SIGTERM"]);

/** @param take gets the signal's number, and how often it or another that asks for the end has come */
export function forwardSignals(take: (signal: number, count: number) => void): Disposable {
  let count = 0;
  const handlers = forwarded.map((name) => {
    const handle = (): void => {
      if (insistent.has(name)) count += 1;
      take(constants.signals[name], insistent.has(name) ? count : 0);
    };
    process.on(name, handle);
    return [name, handle] as const;
  });
  return {
    [Symbol.dispose]() {
      for (const [name, handle] of handlers) process.off(name, handle);
    },
  };
}
