/** The terminal of the person at the keyboard. Raw mode is undone however the process ends. */
import type { TerminalSize } from "@hearth/sdk";

/** Bytes go through as they are typed, ctrl-C included. The result restores the terminal, and may be repeated. */
export function enterRawMode(): () => void {
  const { stdin } = process;
  if (!stdin.isTTY) return () => undefined;
  const wasRaw = stdin.isRaw;
  const restore = (): void => {
    process.off("exit", restore);
    if (!stdin.destroyed) stdin.setRawMode(wasRaw);
  };
  process.on("exit", restore);
  stdin.setRawMode(true);
  return restore;
}

const fallbackSize: TerminalSize = { cols: 80, rows: 24 };

export function terminalSize(): TerminalSize {
  const { columns: cols, rows } = process.stdout.isTTY ? process.stdout : process.stderr;
  return cols > 0 && rows > 0 ? { cols, rows } : fallbackSize;
}

/** Calls with each new size of the terminal until the result is called. */
export function onResize(tell: (size: TerminalSize) => void): () => void {
  const changed = (): void => tell(terminalSize());
  process.on("SIGWINCH", changed);
  return () => {
    process.off("SIGWINCH", changed);
  };
}
