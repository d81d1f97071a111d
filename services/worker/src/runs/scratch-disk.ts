/**
 * Scratch disks: the writable layer over an image. One sparse filesystem a size is made once, and copied;
 * a copy costs what the filesystem holds when it is new, under a megabyte, and nothing where the host has
 * reflinks.
 */
import { execFile } from "node:child_process";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { HearthError } from "@hearth/errors";

const run = promisify(execFile);
export const defaultScratchGb = 8;

export class ScratchDisks {
  readonly #templates: string;
  readonly #making = new Map<number, Promise<string>>();

  constructor(templates: string) {
    this.#templates = templates;
  }

  /** Makes the disk, or makes it anew. The file appears whole or not at all. */
  async make(path: string, sizeGb: number, signal: AbortSignal): Promise<void> {
    const template = await whileWanted(this.#template(sizeGb), signal);
    const partial = `${path}.new`;
    try {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await host("cp", ["--reflink=auto", "--sparse=always", template, partial], signal);
      signal.throwIfAborted();
      await rename(partial, path);
    } catch (error) {
      await rm(partial, { force: true });
      throw diskFault(error);
    }
  }

  async remove(path: string): Promise<void> {
    await Promise.all([rm(path, { force: true }), rm(`${path}.new`, { force: true })]);
  }

  #template(sizeGb: number): Promise<string> {
    const making = this.#making.get(sizeGb) ?? this.#makeTemplate(sizeGb);
    this.#making.set(sizeGb, making);
    making.catch(() => this.#making.delete(sizeGb));
    return making;
  }

  async #makeTemplate(sizeGb: number): Promise<string> {
    const path = join(this.#templates, `scratch-${sizeGb}g-v1.ext4`);
    if (await exists(path)) return path;
    const partial = `${path}.new`;
    try {
      await this.#format(sizeGb, partial);
      await rename(partial, path);
      return path;
    } catch (error) {
      await rm(partial, { force: true });
      throw diskFault(error);
    } finally {
      await rm(`${partial}.full`, { force: true });
    }
  }

  async #format(sizeGb: number, partial: string): Promise<void> {
    await mkdir(this.#templates, { recursive: true, mode: 0o700 });
    await rm(partial, { force: true });
    // Tables that are left for later are written by the guest's kernel, in each guest, while it should work.
    const options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
    await host("truncate", ["-s", `${sizeGb}G`, `${partial}.full`]);
    await host("mkfs.ext4", ["-q", "-F", "-m", "0", "-J", "size=16", "-E", options, `${partial}.full`]);
    await host("cp", ["--sparse=always", `${partial}.full`, partial]);
  }
}

/** One template is made for all who want it, so that one of them may go away without ending it. */
function whileWanted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const stopped = Promise.withResolvers<never>();
  const stop = (): void => stopped.reject(new HearthError("cancelled", { cause: signal.reason }));
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop, { once: true });
  return Promise.race([work, stopped.promise]).finally(() => signal.removeEventListener("abort", stop));
}

function diskFault(thrown: unknown): unknown {
  const { code } = thrown as NodeJS.ErrnoException;
  return code === "ENOSPC" || code === "EDQUOT" ? new HearthError("disk_full", { cause: thrown }) : thrown;
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

async function host(program: string, args: readonly string[], signal?: AbortSignal): Promise<void> {
  try {
    await run(program, args, {
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
      ...(signal ? { signal } : {}),
    });
  } catch (cause) {
    const { code, name, stderr } = cause as NodeJS.ErrnoException & { stderr?: string };
    if (code === "ENOENT") throw new HearthError("host_requirement_missing", { details: { program }, cause });
    if (name === "AbortError") throw new HearthError("deadline_exceeded", { cause });
    throw new HearthError(/No space left/.test(stderr ?? "") ? "disk_full" : "internal", { cause });
  }
}
