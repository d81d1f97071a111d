/** An image service for the tests of the API, behind the contract of the bus. */
import { type Bus, type Serving, serveStreams } from "@hearth/cluster";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import type { ImageMessage, NodeImage } from "@hearth/machine";

const encode = (message: ImageMessage): Uint8Array => new TextEncoder().encode(JSON.stringify(message));

export class FakeImages {
  readonly ensured: string[] = [];
  readonly images = new Map<string, NodeImage>();
  /** The error for references that hold this word. */
  readonly faults = new Map<string, HearthErrorCode>([["missing", "image_not_found"]]);
  /** What a machine holds. */
  readonly inUse = new Set<string>();
  /** Bytes that imports brought. */
  importedBytes = 0;
  readonly #serving: Serving[];

  constructor(bus: Bus, nodeId: string) {
    this.#serving = [
      bus.serve(nodeId, "images", {
        list: () => [...this.images.values()],
        remove: (payload) => {
          const { reference } = payload as { reference: string };
          if (this.inUse.has(reference)) throw new HearthError("image_in_use");
          if (!this.images.delete(reference)) throw new HearthError("image_not_found");
        },
      }),
      serveStreams(
        bus,
        { nodeId, service: "images" },
        {
          ensure: async (stream, payload) => {
            const { reference } = payload as { reference: string };
            this.ensured.push(reference);
            for (const [word, code] of this.faults) if (reference.includes(word)) throw new HearthError(code);
            if (!this.images.has(reference)) {
              await stream.write(encode({ kind: "downloading", doneBytes: 0, totalBytes: 10 }));
              await stream.write(encode({ kind: "merging" }));
            }
            await stream.write(encode({ kind: "done", image: this.#keep(reference) }));
          },
          import: async (stream, payload) => {
            const { reference } = payload as { reference: string };
            for await (const bytes of stream) {
              this.importedBytes += bytes.length;
              if (reference.includes("hostile")) throw new HearthError("image_layer_hostile");
            }
            await stream.write(encode({ kind: "done", image: this.#keep(reference) }));
          },
        },
      ),
    ];
  }

  async stop(): Promise<void> {
    await Promise.all(this.#serving.map((each) => each.stop()));
  }

  #keep(reference: string): NodeImage {
    const config = {
      entrypoint: [],
      cmd: ["/app"],
      env: [],
      user: "",
      workdir: "/",
      stopSignal: "",
      labels: {},
    };
    const image: NodeImage = {
      reference,
      imageId: `id-${reference}`,
      digest: "sha256:00",
      rootfsPath: "/nowhere",
      sizeBytes: 7,
      config,
    };
    this.images.set(reference, image);
    return image;
  }
}
