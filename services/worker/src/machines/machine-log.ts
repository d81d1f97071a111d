/**
 * The output of one machine on its host's disk: JSON lines in `log.jsonl`, the older half in `log.1.jsonl`.
 *
 * The file is the buffer: a reader that follows is woken by each append and reads on from its place in the
 * file, so that a slow one costs no memory. One that asks to be waited for slows the program down when it is far
 * behind, so that it loses nothing to the rotation; but only while it moves. The guest's numbers are kept beside our own,
 * because those of the guest start again with each boot and a worker that comes back asks it for the rest.
 */
import { type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { LogEntry } from "@hearth/machine";
import { linesBackward } from "./lines-backward.ts";

export interface GuestOutput {
  /** The run that started the VM. */
  readonly boot: string;
  /** The guest's own number of it. */
  readonly seq: number;
  readonly timeMs: number;
  readonly stream: "stdout" | "stderr";
  readonly data: Uint8Array;
}

export interface StoredEntry extends LogEntry {
  readonly boot: string;
  readonly guest_seq?: number;
}

export interface ReadLogOptions {
  /** Entries from before now; all that are kept when absent. */
  readonly tail?: number;
  /** Only of this boot. */
  readonly boot?: string;
  readonly follow: boolean;
  /** Of a follower: output waits for it, as that of a program waits for a terminal. */
  readonly waitedFor?: boolean;
  readonly signal: AbortSignal;
}

/** Where a follower is: in the newest file, or in one that was the newest `generation`s ago. */
interface Place {
  generation: number;
  offset: number;
  /** False from when it was waited for in vain until it moves again. */
  moves: boolean;
}

export const rotateBytes = 16 * 1024 * 1024;
const readBytes = 64 * 1024;
/** Less than the agent waits for us, so that one reader that stands still does not cost the log itself. */
const standstillMs = 1_000;

export class MachineLog {
  readonly #path: string;
  readonly #older: string;
  readonly #rotateBytes: number;
  readonly #readers = new Set<() => void>();
  readonly #waitedFor = new Set<Place>();
  /** Called when one of those moved or left. */
  #onMoved: (() => void) | undefined;
  #file: FileHandle | undefined;
  #size = 0;
  /** Grows with each rotation, so that a reader knows that its file is the older one now. */
  #generation = 0;
  #nextSeq = 0;
  #boot = "";
  #nextGuestSeq = 0;
  #writes: Promise<unknown> = Promise.resolve();

  constructor(directory: string, limitBytes = rotateBytes) {
    this.#path = join(directory, "log.jsonl");
    this.#older = join(directory, "log.1.jsonl");
    this.#rotateBytes = limitBytes;
  }

  /** The guest's number from which on output of this boot is not here yet. */
  async nextGuestSeq(boot: string): Promise<number> {
    return await this.#inOrder(async () => (this.#boot === boot ? this.#nextGuestSeq : 0));
  }

  /** Output that is here already is passed over; a gap in the guest's numbers is a gap in ours. */
  async append(output: GuestOutput): Promise<void> {
    await this.#inOrder(async () => {
      await this.#untilRead();
      const expected = this.#boot === output.boot ? this.#nextGuestSeq : 0;
      if (output.seq < expected) return;
      const seq = this.#nextSeq + (output.seq - expected);
      this.#boot = output.boot;
      this.#nextGuestSeq = output.seq + 1;
      await this.#write({
        seq,
        timestamp: new Date(output.timeMs).toISOString(),
        stream: output.stream,
        data: Buffer.from(output.data).toString("base64"),
        boot: output.boot,
        guest_seq: output.seq,
      });
    });
  }

  /** A sentence of the platform, between the lines of the program. */
  async say(boot: string, timeMs: number, text: string): Promise<void> {
    await this.#inOrder(async () =>
      this.#write({
        seq: this.#nextSeq,
        timestamp: new Date(timeMs).toISOString(),
        stream: "hearth",
        data: Buffer.from(`${text}\n`).toString("base64"),
        boot,
      }),
    );
  }

  /** Wakes those who follow, so that they look whether there is still something to follow. */
  wake(): void {
    for (const reader of [...this.#readers]) reader();
  }

  /**
   * Entries in order. A follower is never ended by this: it ends when `ended` says so and nothing is left.
   * @param ended asked when everything written has been read
   */
  async *read(options: ReadLogOptions, ended: () => boolean = () => false): AsyncGenerator<StoredEntry> {
    const { tail, boot, follow } = options;
    if (options.waitedFor === true) {
      const place = await this.#inOrder(async () => {
        const hasOlder = (await size(this.#older)) > 0;
        const first: Place = { generation: this.#generation - (hasOlder ? 1 : 0), offset: 0, moves: true };
        this.#waitedFor.add(first);
        return first;
      });
      try {
        yield* this.#follow(place, options, ended);
      } finally {
        this.#waitedFor.delete(place);
        this.#onMoved?.();
      }
      return;
    }
    await this.#inOrder(async () => undefined);
    const generation = this.#generation;
    const end = this.#size;
    if (tail === undefined || tail > 0) {
      for await (const entry of this.#past(tail, end))
        if (boot === undefined || entry.boot === boot) yield entry;
    }
    if (follow) yield* this.#follow({ generation, offset: end, moves: true }, options, ended);
  }

  async *#follow(
    place: Place,
    { signal, boot }: ReadLogOptions,
    ended: () => boolean,
  ): AsyncGenerator<StoredEntry> {
    let file: FileHandle | undefined;
    try {
      for (;;) {
        signal.throwIfAborted();
        const woken = this.#wakeOnce(signal);
        const over = ended();
        if (place.generation < this.#generation) {
          // The file behind an open handle stays the same when it is renamed. Without one, what it was in may be
          // gone, and the older file is read from its beginning.
          if (file === undefined) {
            if (place.generation < this.#generation - 1) place.offset = 0;
            place.generation = this.#generation - 1;
            file = await open(this.#older, "r").catch(() => undefined);
          }
          if (file !== undefined) yield* this.#forward(file, place, boot);
          await file?.close();
          file = undefined;
          place.generation += 1;
          place.offset = 0;
          this.#moved(place);
          continue;
        }
        if (place.offset < this.#size) {
          file ??= await open(this.#path, "r");
          yield* this.#forward(file, place, boot);
          continue;
        }
        if (over) return;
        await woken;
      }
    } finally {
      await file?.close();
    }
  }

  async close(): Promise<void> {
    await this.#inOrder(async () => {
      await this.#file?.close();
      this.#file = undefined;
    });
  }

  async *#past(tail: number | undefined, end: number): AsyncGenerator<StoredEntry> {
    const older = await size(this.#older);
    let skipOlder = 0;
    let skip = 0;
    if (tail !== undefined) {
      const { offset, missing } = await linesBackward(this.#path, end, tail);
      skip = offset;
      skipOlder = missing === 0 ? older : (await linesBackward(this.#older, older, missing)).offset;
    }
    for (const [path, from, to] of [
      [this.#older, skipOlder, older],
      [this.#path, skip, end],
    ] as const) {
      if (from >= to) continue;
      const file = await open(path, "r");
      try {
        yield* entries(file, { offset: from }, to);
      } finally {
        await file.close();
      }
    }
  }

  async *#forward(file: FileHandle, place: Place, boot: string | undefined): AsyncGenerator<StoredEntry> {
    for await (const entry of entries(file, place, Number.POSITIVE_INFINITY)) {
      if (boot === undefined || entry.boot === boot) yield entry;
      this.#moved(place);
    }
  }

  #moved(place: Place): void {
    place.moves = true;
    this.#onMoved?.();
  }

  /** Waits while a reader is so far behind that the next rotation might take from it what it has not read. */
  async #untilRead(): Promise<void> {
    const isBehind = (place: Place): boolean =>
      place.moves &&
      (place.generation < this.#generation || this.#size - place.offset > this.#rotateBytes / 2);
    for (;;) {
      const behind = [...this.#waitedFor].filter(isBehind);
      if (behind.length === 0) return;
      const { promise, resolve } = Promise.withResolvers<boolean>();
      const timer = setTimeout(() => resolve(false), standstillMs);
      this.#onMoved = () => resolve(true);
      const moved = await promise;
      clearTimeout(timer);
      this.#onMoved = undefined;
      if (!moved) for (const place of behind) place.moves = false;
    }
  }

  #wakeOnce(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#readers.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      this.#readers.add(wake);
      signal.addEventListener("abort", wake, { once: true });
    });
  }

  async #write(entry: StoredEntry): Promise<void> {
    const line = Buffer.from(`${JSON.stringify(entry)}\n`);
    if (this.#size > 0 && this.#size + line.length > this.#rotateBytes) await this.#rotate();
    const file = this.#file ?? (await this.#open());
    await file.appendFile(line);
    this.#size += line.length;
    this.#nextSeq = entry.seq + 1;
    this.wake();
  }

  async #rotate(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
    await rename(this.#path, this.#older);
    this.#generation += 1;
    this.#size = 0;
  }

  async #open(): Promise<FileHandle> {
    await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
    const file = await open(this.#path, "a", 0o600);
    this.#file = file;
    return file;
  }

  #loaded: Promise<void> | undefined;

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#writes.then(async () => {
      this.#loaded ??= this.#load();
      await this.#loaded;
      return await work();
    });
    this.#writes = done.catch(() => undefined); // the caller of this write has the error; the next goes on
    return done;
  }

  /** Finds the place where an earlier worker stopped; a line that it did not finish is cut off. */
  async #load(): Promise<void> {
    this.#size = await size(this.#path);
    if (this.#size > 0) {
      const file = await open(this.#path, "r+");
      try {
        this.#size = await wholeLines(file, this.#size);
        await file.truncate(this.#size);
      } finally {
        await file.close();
      }
    }
    let last: StoredEntry | undefined;
    let guest: StoredEntry | undefined;
    for await (const entry of this.#past(tailOnLoad, this.#size)) {
      last = entry;
      if (entry.guest_seq !== undefined) guest = entry;
    }
    this.#nextSeq = (last?.seq ?? -1) + 1;
    if (guest === undefined) return;
    this.#boot = guest.boot;
    this.#nextGuestSeq = (guest.guest_seq ?? -1) + 1;
  }
}

/** More than the sentences of the platform that can follow the last output of a program. */
const tailOnLoad = 64;

const size = (path: string): Promise<number> =>
  stat(path).then(
    (found) => found.size,
    () => 0,
  );

export const removeLog = async (directory: string): Promise<void> => {
  await rm(directory, { recursive: true, force: true });
};

/** The size without an unfinished last line. */
async function wholeLines(file: FileHandle, end: number): Promise<number> {
  const buffer = Buffer.alloc(readBytes);
  let at = end;
  while (at > 0) {
    const from = Math.max(0, at - buffer.length);
    const { bytesRead } = await file.read(buffer, 0, at - from, from);
    const newline = buffer.subarray(0, bytesRead).lastIndexOf(10);
    if (newline >= 0) return from + newline + 1;
    at = from;
  }
  return 0;
}

/** Whole lines from `place.offset` to `end`, or to where the file ends now; moves the place along. */
async function* entries(
  file: FileHandle,
  place: { offset: number },
  end: number,
): AsyncGenerator<StoredEntry> {
  const buffer = Buffer.alloc(readBytes);
  let partial = Buffer.alloc(0);
  let read = place.offset;
  for (;;) {
    const length = Math.min(buffer.length, end - read);
    if (length <= 0) return;
    const { bytesRead } = await file.read(buffer, 0, length, read);
    if (bytesRead === 0) return;
    read += bytesRead;
    let rest = Buffer.concat([partial, buffer.subarray(0, bytesRead)]);
    for (let newline = rest.indexOf(10); newline >= 0; newline = rest.indexOf(10)) {
      const line = rest.subarray(0, newline).toString();
      rest = rest.subarray(newline + 1);
      place.offset += newline + 1;
      yield JSON.parse(line) as StoredEntry;
    }
    partial = Buffer.from(rest);
  }
}
