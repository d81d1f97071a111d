/** The steps of `npm start`, told to a person on stderr and kept, with their times, for the JSON line. */

const slowMs = 1_000;
const tickMs = 1_000;

export class Progress {
  /** Milliseconds of each step that ended. */
  readonly steps: Record<string, number> = {};
  /** The step that runs, or the one that failed. */
  current: string | undefined;
  readonly #isTerminal = process.stderr.isTTY === true;

  /** A step that another process did before this one. */
  done(name: string, title: string, ms: number): void {
    this.steps[name] = Math.round(ms);
    this.#write(`✓ ${title}${duration(ms)}\n`);
  }

  async step<T>(
    name: string,
    title: string,
    work: (tell: (detail: string) => void) => Promise<T>,
  ): Promise<T> {
    this.current = name;
    const begun = performance.now();
    let detail = "";
    const show = (): void => {
      const seconds = Math.round((performance.now() - begun) / 1000);
      this.#line(`· ${title}${detail === "" ? "" : `: ${detail}`}${seconds > 0 ? ` (${seconds} s)` : ""}`);
    };
    show();
    const ticking = setInterval(show, tickMs);
    try {
      const result = await work((text) => {
        detail = text;
      });
      const ms = performance.now() - begun;
      this.steps[name] = Math.round(ms);
      this.#line(`✓ ${title}${duration(ms)}`, "\n");
      this.current = undefined;
      return result;
    } catch (error) {
      this.#line(`✗ ${title}`, "\n");
      throw error;
    } finally {
      clearInterval(ticking);
    }
  }

  /** On a terminal a step has one line, which is written again; elsewhere only its end is worth a line. */
  #line(text: string, end = ""): void {
    if (this.#isTerminal) this.#write(`\r\x1b[K${text.slice(0, (process.stderr.columns ?? 80) - 1)}${end}`);
    else if (end !== "") this.#write(`${text}${end}`);
  }

  #write(text: string): void {
    process.stderr.write(text);
  }
}

const duration = (ms: number): string => (ms < slowMs ? "" : `  ${(ms / 1000).toFixed(1)} s`);
