import type { HearthClient, Target } from "@hearth/sdk";

export interface Copying {
  readonly client: HearthClient;
  readonly machine: Target;
  readonly report: CopyReport;
}

/** What a copy did, and what it could not do. */
export class CopyReport {
  readonly skipped: { readonly path: string; readonly reason: string }[] = [];
  #files = 0;
  #directories = 0;
  #links = 0;
  #bytes = 0;

  file(bytes: number): void {
    this.#files += 1;
    this.#bytes += bytes;
  }

  directory(): void {
    this.#directories += 1;
  }

  link(): void {
    this.#links += 1;
  }

  skip(path: string, reason: string): void {
    this.skipped.push({ path, reason });
  }

  summary(): object {
    return {
      files: this.#files,
      directories: this.#directories,
      links: this.#links,
      bytes: this.#bytes,
      skipped: this.skipped,
    };
  }
}
