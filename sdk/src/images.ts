import type { Readable } from "node:stream";
import type { ImageMessage, NodeImage } from "@hearth/machine";
import { listIn } from "./list-in.ts";
import { readMessages } from "./ndjson.ts";
import { type Transport, toReadable } from "./transport.ts";

// A node may have to merge large layers before it has anything to say.
const answerLimitMs = 30 * 60_000;

export class Images {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async list(signal?: AbortSignal): Promise<NodeImage[]> {
    return listIn(await this.#transport.json({ method: "GET", path: "/v1/images", signal }), "images");
  }

  /** Progress, then `done`. Nothing is downloaded when the image is there and current. */
  async *pull(reference: string, signal?: AbortSignal): AsyncGenerator<ImageMessage> {
    const answer = await this.#transport.open({
      method: "POST",
      path: "/v1/images/pull",
      json: { reference },
      signal,
      answerLimitMs,
    });
    try {
      yield* readMessages<ImageMessage>(answer, signal);
    } finally {
      answer.destroy();
    }
  }

  /** @param archive the bytes of an OCI layout tar or of a docker archive */
  async *import(
    reference: string,
    archive: Readable | Uint8Array | AsyncIterable<Uint8Array>,
    signal?: AbortSignal,
  ): AsyncGenerator<ImageMessage> {
    const answer = await this.#transport.open({
      method: "POST",
      path: "/v1/images/import",
      query: { reference },
      bytes: toReadable(archive),
      signal,
      answerLimitMs,
    });
    try {
      yield* readMessages<ImageMessage>(answer, signal);
    } finally {
      answer.destroy();
    }
  }

  /** @throws HearthError `image_in_use`, `image_not_found` */
  async remove(reference: string, signal?: AbortSignal): Promise<void> {
    await this.#transport.json({ method: "DELETE", path: "/v1/images", query: { reference }, signal });
  }
}
