/** The files of a fake machine: paths of the guest below one directory of the host. */
import { createReadStream, createWriteStream } from "node:fs";
import { lstat, mkdir, open, readdir, readlink, rename, rm } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { basename, join, normalize } from "node:path";
import { pipeline } from "node:stream/promises";
import { HearthError } from "@hearth/errors";

export interface FilesExchange {
  readonly root: string;
  /** Method and the part of the path after `files`. */
  readonly name: string;
  readonly query: URLSearchParams;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly json: () => Promise<Record<string, unknown>>;
}

export async function routeFiles(exchange: FilesExchange): Promise<void> {
  try {
    await route(exchange);
  } catch (cause) {
    const { code } = cause as { code?: unknown };
    if (code === "ENOENT" || code === "ENOTDIR") throw new HearthError("guest_path_not_found", { cause });
    if (cause instanceof HearthError) throw cause;
    throw new HearthError("invalid_argument", { message: `The guest refused it: ${String(code)}.`, cause });
  }
}

async function route({ root, name, query, request, response, json }: FilesExchange): Promise<void> {
  const inside = (path: string): string => join(root, normalize(path));
  const path = inside(query.get("path") ?? "/");
  const answer = (body: unknown): void => {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(body));
  };
  switch (name) {
    case "GET /": {
      const handle = await open(path);
      if ((await handle.stat()).isDirectory()) throw Object.assign(new Error(), { code: "EISDIR" });
      await handle.close();
      response.writeHead(200, { "content-type": "application/octet-stream" });
      return pipeline(createReadStream(path), response);
    }
    case "PUT /": {
      const mode = query.get("mode");
      await pipeline(request, createWriteStream(path, mode === null ? {} : { mode: Number(mode) }));
      return answer({ ok: true });
    }
    case "DELETE /":
      await rm(path, { recursive: query.has("recursive") });
      return answer({ ok: true });
    case "GET /stat":
      return answer(await describe(path));
    case "GET /list":
      return answer(await Promise.all((await readdir(path)).map((entry) => describe(join(path, entry)))));
    case "POST /mkdir": {
      const body = await json();
      await mkdir(inside(String(body.path)), { recursive: body.parents === true });
      return answer({ ok: true });
    }
    case "POST /rename": {
      const body = await json();
      await rename(inside(String(body.path)), inside(String(body.to)));
      return answer({ ok: true });
    }
    default:
      throw new HearthError("not_found");
  }
}

async function describe(path: string): Promise<object> {
  const stat = await lstat(path);
  const kind = stat.isDirectory()
    ? "directory"
    : stat.isSymbolicLink()
      ? "symlink"
      : stat.isFile()
        ? "regular"
        : "other";
  return {
    name: basename(path),
    kind,
    size: stat.size,
    mode: stat.mode & 0o7777,
    uid: stat.uid,
    gid: stat.gid,
    modified_ms: Math.floor(stat.mtimeMs),
    link_target: kind === "symlink" ? await readlink(path) : "",
  };
}
