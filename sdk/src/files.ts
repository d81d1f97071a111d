/** Files inside a running machine. Paths are absolute. */
import type { Readable } from "node:stream";
import { HearthError } from "@hearth/errors";
import { listIn } from "./list-in.ts";
import { machinePath, type Target } from "./machines.ts";
import { type Transport, toReadable } from "./transport.ts";
import type { FileInfo, FileKind } from "./types.ts";

const kinds: Readonly<Record<string, FileKind>> = {
  regular: "file",
  file: "file",
  directory: "directory",
  symlink: "symlink",
};

const longTransferMs = 24 * 3_600_000;

export class Files {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Its bytes, read from the guest only as fast as they are taken. @throws HearthError `guest_path_not_found` */
  read(target: Target, path: string): Promise<Readable> {
    return this.#transport.open({
      method: "GET",
      path: `${machinePath(target)}/files`,
      query: { path },
      headers: { accept: "application/octet-stream" },
      signal: target.signal,
    });
  }

  /** The file appears whole or not at all. */
  async write(
    target: Target,
    path: string,
    source: Readable | Uint8Array | string | AsyncIterable<Uint8Array>,
    options: { /** Permission bits. */ readonly mode?: number } = {},
  ): Promise<void> {
    await this.#transport.json({
      method: "PUT",
      path: `${machinePath(target)}/files`,
      query: { path, mode: options.mode },
      bytes: toReadable(source),
      signal: target.signal,
      // The answer comes after the last byte, however long the bytes take.
      answerLimitMs: longTransferMs,
    });
  }

  /** A symbolic link is described itself, not what it names. */
  async stat(target: Target, path: string): Promise<FileInfo> {
    const body = await this.#call<{ info?: unknown }>(target, "GET", "/files/stat", { query: { path } });
    return readFileInfo(body.info ?? body);
  }

  async list(target: Target, path: string): Promise<FileInfo[]> {
    const body = await this.#call<unknown>(target, "GET", "/files/list", { query: { path } });
    return listIn(body, "entries").map(readFileInfo);
  }

  async mkdir(target: Target, path: string, options: { readonly parents?: boolean } = {}): Promise<void> {
    await this.#call(target, "POST", "/files/mkdir", { json: { path, ...options } });
  }

  async rename(target: Target, path: string, to: string): Promise<void> {
    await this.#call(target, "POST", "/files/rename", { json: { path, to } });
  }

  async remove(target: Target, path: string, options: { readonly recursive?: boolean } = {}): Promise<void> {
    const query = { path, recursive: options.recursive === true ? true : undefined };
    await this.#call(target, "DELETE", "/files", { query });
  }

  #call<T>(
    target: Target,
    method: "GET" | "POST" | "DELETE",
    below: string,
    more: { query?: Record<string, string | boolean | undefined>; json?: unknown },
  ): Promise<T> {
    const path = `${machinePath(target)}${below}`;
    return this.#transport.json({ method, path, signal: target.signal, ...more });
  }
}

/** Numbers of 64 bits may come as text. */
function readFileInfo(value: unknown): FileInfo {
  if (typeof value !== "object" || value === null) throw new HearthError("internal");
  const raw = value as Record<string, unknown>;
  const info = {
    name: String(raw.name ?? ""),
    kind: kinds[String(raw.kind)] ?? "other",
    size: Number(raw.size ?? 0),
    mode: Number(raw.mode ?? 0) & 0o7777,
    uid: Number(raw.uid ?? 0),
    gid: Number(raw.gid ?? 0),
    modified_ms: Number(raw.modified_ms ?? 0),
  };
  const link = raw.link_target;
  return typeof link === "string" && link !== "" ? { ...info, link_target: link } : info;
}
