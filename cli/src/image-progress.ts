/** How far an image is, on stderr: a line that moves in a terminal, single lines elsewhere. */
import type { ImageMessage } from "@hearth/machine";
import { formatBytes, note } from "./output.ts";

const redrawMs = 100;
const barWidth = 24;

export class ImageProgress {
  readonly #reference: string;
  readonly #verb: string;
  readonly #isSilent: boolean;
  readonly #isTerminal: boolean;
  #drawnAtMs = 0;
  #isDrawn = false;
  #told = "";

  /** @param options.verb what brings the image here */
  constructor(reference: string, options: { readonly silent: boolean; readonly verb?: string }) {
    this.#reference = reference;
    this.#verb = options.verb ?? "Pulling";
    this.#isSilent = options.silent;
    this.#isTerminal = process.stderr.isTTY === true;
  }

  take(message: ImageMessage): void {
    if (message.kind === "downloading") this.bytes(message.doneBytes, message.totalBytes);
    else if (message.kind === "merging") this.#say("Unpacking", "");
    else this.end();
  }

  /** @param total 0 while it is not known */
  bytes(done: number, total: number): void {
    if (total === 0 && done === 0) return;
    if (!this.#isTerminal) {
      this.#say(this.#verb, total > 0 ? formatBytes(total) : "");
      return;
    }
    if (Date.now() - this.#drawnAtMs < redrawMs && done < total) return;
    const size = total > 0 ? `${formatBytes(done)} of ${formatBytes(total)}` : formatBytes(done);
    this.#say(this.#verb, total > 0 ? `${bar(done / total)} ${size}` : size);
  }

  /** Leaves the terminal as if nothing had been drawn. */
  end(): void {
    if (this.#isDrawn) process.stderr.write("\r\x1b[K");
    this.#isDrawn = false;
  }

  #say(verb: string, more: string): void {
    if (this.#isSilent) return;
    const text = `${verb} ${this.#reference}${more === "" ? "" : ` ${more}`}`;
    if (this.#isTerminal) {
      const { columns } = process.stderr;
      process.stderr.write(`\r\x1b[K${text.slice(0, Math.max(20, columns - 1))}`);
      this.#drawnAtMs = Date.now();
      this.#isDrawn = true;
    } else if (this.#told !== verb) {
      this.#told = verb;
      note(text);
    }
  }
}

function bar(part: number): string {
  const filled = Math.round(Math.min(1, part) * barWidth);
  return `[${"#".repeat(filled)}${"-".repeat(barWidth - filled)}]`;
}
