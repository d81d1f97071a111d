/**
 * The image store of a node, on the bus.
 *
 * A hold is on disk before its holder is told that the image is there, and a worker may ensure again what it
 * holds already, as it does when it adopts its machines. What is released and has no name goes at once.
 */
import { randomUUID } from "node:crypto";
import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { type Bus, type BusStream, type Handler, type StreamHandler, serveStreams } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import { type ImageMessage, imageRequests, type NodeImage } from "@hearth/machine";
import type Type from "typebox";
import Value from "typebox/value";
import { diskFault } from "./blob-file.ts";
import type { HoldBook } from "./hold-book.ts";
import type { EnsureOptions, ImageStore, StoredImage } from "./image-store.ts";
import { ProgressReport } from "./progress-report.ts";

export interface ImageServiceDeps {
  readonly store: ImageStore;
  readonly holds: HoldBook;
  readonly nodeId: string;
  /** For bytes on their way in; emptied by the store when it starts. */
  readonly workDirectory: string;
}

export const imageServiceName = "images";

export class ImageService {
  readonly #deps: ImageServiceDeps;

  constructor(deps: ImageServiceDeps) {
    this.#deps = deps;
  }

  serve(bus: Bus): AsyncDisposable {
    const { nodeId } = this.#deps;
    const commands = bus.serve(nodeId, imageServiceName, this.#commands());
    const streams = serveStreams(bus, { nodeId, service: imageServiceName }, this.#streams());
    return {
      [Symbol.asyncDispose]: async () => {
        await Promise.all([commands.stop(), streams.stop()]);
      },
    };
  }

  #commands(): Record<"list" | "remove" | "release", Handler> {
    const { store, holds } = this.#deps;
    return {
      list: async (payload) => {
        parseRequest("list", payload ?? {});
        return (await store.list()).map(nodeImage);
      },
      remove: async (payload) => await store.remove(parseRequest("remove", payload).reference),
      release: async (payload) => {
        await holds.release(parseRequest("release", payload).holder);
        await store.collect();
      },
    };
  }

  #streams(): Record<"ensure" | "import", StreamHandler> {
    return {
      ensure: async (stream, payload) => {
        const { reference, holder } = parseRequest("ensure", payload);
        await this.#answer(stream, holder, (options) => this.#deps.store.ensure(reference, options));
      },
      import: async (stream, payload) => {
        const { reference } = parseRequest("import", payload);
        await this.#answer(stream, undefined, (options) => this.#import(stream, reference, options));
      },
    };
  }

  async #answer(
    stream: BusStream,
    holder: string | undefined,
    work: (options: EnsureOptions) => Promise<StoredImage>,
  ): Promise<void> {
    // Nobody waits for the result of a stream that broke; a download shared with others goes on for them.
    const left = new AbortController();
    void stream.closed.then((error) => left.abort(error ?? new HearthError("cancelled")));
    const report = new ProgressReport((message) => send(stream, message, left.signal));
    const image = await work({
      signal: left.signal,
      onProgress: (progress) => report.add(progress),
      ...(holder === undefined ? {} : { holder }),
    });
    if (holder !== undefined) await this.#deps.holds.keep(image.imageId, holder);
    await report.end();
    await send(stream, { kind: "done", image: nodeImage(image) }, left.signal);
  }

  async #import(stream: BusStream, reference: string, options: EnsureOptions): Promise<StoredImage> {
    const path = join(this.#deps.workDirectory, `import-${randomUUID()}.tar`);
    try {
      await pipeline(stream, createWriteStream(path), { signal: options.signal }).catch((error: unknown) => {
        throw diskFault(error);
      });
      return await this.#deps.store.import(path, reference, options);
    } finally {
      await rm(path, { force: true });
    }
  }
}

const send = (stream: BusStream, message: ImageMessage, signal: AbortSignal): Promise<void> =>
  stream.write(new TextEncoder().encode(JSON.stringify(message)), { signal });

function nodeImage({ reference, imageId, digest, rootfsPath, sizeBytes, config }: StoredImage): NodeImage {
  return { reference, imageId, digest, rootfsPath, sizeBytes, config };
}

/** @throws HearthError `invalid_argument` */
function parseRequest<Name extends keyof typeof imageRequests>(
  name: Name,
  request: unknown,
): Type.Static<(typeof imageRequests)[Name]> {
  const schema: Type.TSchema = imageRequests[name];
  if (Value.Check(schema, request)) return request as Type.Static<(typeof imageRequests)[Name]>;
  const [problem] = Value.Errors(schema, request);
  const field = problem?.instancePath || "request";
  throw new HearthError("invalid_argument", {
    message: `${name}: ${field} ${problem?.message ?? "is not valid"}.`,
    details: { command: name, field },
  });
}
