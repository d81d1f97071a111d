/**
 * Who holds which image, on disk, so that a restart of this service frees nothing that a machine still needs.
 * One small file a holder; it is complete or not there, and it goes before the hold in memory does.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { diskFault } from "./blob-file.ts";
import type { ImageStore } from "./image-store.ts";

interface HolderFile {
  readonly holder: string;
  readonly imageIds: readonly string[];
}

export class HoldBook {
  readonly #directory: string;
  readonly #store: ImageStore;
  readonly #held = new Map<string, Set<string>>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(directory: string, store: ImageStore) {
    this.#directory = directory;
    this.#store = store;
  }

  /** Takes up the holds of the last life; to be called before anything can be removed. */
  async start(): Promise<void> {
    await mkdir(this.#directory, { recursive: true });
    for (const name of await readdir(this.#directory)) {
      const path = join(this.#directory, name);
      if (!name.endsWith(".json")) {
        await rm(path, { force: true });
        continue;
      }
      const { holder, imageIds } = JSON.parse(await readFile(path, "utf8")) as HolderFile;
      this.#held.set(holder, new Set(imageIds));
      for (const imageId of imageIds) this.#store.retain(imageId, holder);
    }
  }

  /** Makes a hold that the store already has outlive this process. Idempotent. */
  async keep(imageId: string, holder: string): Promise<void> {
    await this.#inTurn(async () => {
      const held = this.#held.get(holder) ?? new Set();
      if (held.has(imageId)) return;
      const path = this.#path(holder);
      const temporary = `${path}.${randomUUID()}`;
      const content: HolderFile = { holder, imageIds: [...held, imageId] };
      try {
        await writeFile(temporary, JSON.stringify(content), { flush: true });
        await rename(temporary, path);
      } catch (error) {
        await rm(temporary, { force: true });
        throw diskFault(error);
      }
      this.#held.set(holder, held.add(imageId));
      this.#store.retain(imageId, holder);
    });
  }

  /** Ends all holds of `holder`. Idempotent. */
  async release(holder: string): Promise<void> {
    await this.#inTurn(async () => {
      await rm(this.#path(holder), { force: true });
      this.#held.delete(holder);
      this.#store.releaseAll(holder);
    });
  }

  // Holders are named by others, so their names do not become names of files.
  #path = (holder: string): string =>
    join(this.#directory, `${createHash("sha256").update(holder).digest("hex")}.json`);

  async #inTurn(work: () => Promise<void>): Promise<void> {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => undefined);
    await mine;
  }
}
