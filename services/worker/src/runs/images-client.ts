/** The image service of this node, as the worker asks it. */
import { type Bus, openStream } from "@hearth/cluster";
import { HearthError } from "@hearth/errors";
import type { ImageMessage, NodeImage } from "@hearth/machine";

export interface ImagesClient {
  /** The image of a reference, held for `holder` from then on. Errors: those of images, `unavailable`. */
  ensure(reference: string, holder: string, signal: AbortSignal): Promise<NodeImage>;
  release(holder: string, signal: AbortSignal): Promise<void>;
}

const requestLimitMs = 10_000;

export class BusImagesClient implements ImagesClient {
  readonly #bus: Bus;
  readonly #nodeId: string;

  constructor(bus: Bus, nodeId: string) {
    this.#bus = bus;
    this.#nodeId = nodeId;
  }

  async ensure(reference: string, holder: string, signal: AbortSignal): Promise<NodeImage> {
    const target = { nodeId: this.#nodeId, service: "images", command: "ensure" };
    const stream = await openStream(
      this.#bus,
      target,
      { reference, holder },
      { timeoutMs: requestLimitMs, signal },
    );
    try {
      void stream.end().catch(() => undefined); // a stream that broke says so where it is read
      for (;;) {
        const bytes = await stream.read({ signal });
        if (bytes === undefined) throw new HearthError("unavailable");
        const message = JSON.parse(Buffer.from(bytes).toString()) as ImageMessage;
        if (message.kind === "done") return message.image;
      }
    } catch (error) {
      stream.fail(new HearthError("cancelled"));
      throw error;
    }
  }

  async release(holder: string, signal: AbortSignal): Promise<void> {
    await this.#bus.request(
      this.#nodeId,
      "images",
      "release",
      { holder },
      { timeoutMs: requestLimitMs, signal },
    );
  }
}
