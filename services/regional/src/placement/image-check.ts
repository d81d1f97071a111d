/**
 * Asks a node's image service for an image before anything is reserved for it, so that a wrong name, wrong
 * credentials or a wrong architecture is the answer to the request that made the mistake and leaves nothing
 * behind. It waits only until the image is known to be there; the download goes on, and the worker joins it.
 */
import { type Bus, type BusStream, openStream } from "@hearth/cluster";
import { HearthError, type HearthErrorCode } from "@hearth/errors";
import type { ImageMessage } from "@hearth/machine";

export const imagesService = "images";
const openLimitMs = 5_000;
const answerLimitMs = 30_000;

/** What the caller can do something about. Anything else is the run's business, which tries again. */
const answered: ReadonlySet<HearthErrorCode> = new Set<HearthErrorCode>([
  "invalid_argument",
  "image_reference_invalid",
  "image_not_found",
  "image_unauthorized",
  "image_platform_missing",
  "image_digest_mismatch",
  "image_format_unsupported",
  "image_layer_hostile",
  "image_too_large",
  "registry_unavailable",
  "disk_full",
]);

export class ImageCheck {
  readonly #bus: () => Bus;
  readonly #onSkipped: (error: HearthError) => void;
  readonly #downloads = new Set<BusStream>();

  constructor(bus: () => Bus, onSkipped: (error: HearthError) => void) {
    this.#bus = bus;
    this.#onSkipped = onSkipped;
  }

  /** @throws HearthError one of the `image_…` codes, `registry_unavailable` */
  async check(nodeId: string, reference: string): Promise<void> {
    let stream: BusStream | undefined;
    try {
      const target = { nodeId, service: imagesService, command: "ensure" };
      stream = await openStream(this.#bus(), target, { reference }, { timeoutMs: openLimitMs });
      if ((await firstNews(stream)) === "done") stream.fail(new HearthError("cancelled"));
      else this.#drain(stream);
    } catch (thrown) {
      const error = HearthError.from(thrown);
      stream?.fail(error);
      if (answered.has(error.code)) throw error;
      this.#onSkipped(error);
    }
  }

  stop(): void {
    for (const stream of this.#downloads) stream.fail(new HearthError("unavailable"));
  }

  /** Nobody waits for this download but the run, which reports how it ended. */
  #drain(stream: BusStream): void {
    this.#downloads.add(stream);
    const take = async (): Promise<void> => {
      let message = await stream.read();
      while (message !== undefined) message = await stream.read();
      await stream.end();
    };
    void take()
      .catch((error: unknown) => stream.fail(error))
      .finally(() => this.#downloads.delete(stream));
  }
}

/** A download whose size is known has a manifest that was found, allowed and understood. */
async function firstNews(stream: BusStream): Promise<"coming" | "done"> {
  const signal = AbortSignal.timeout(answerLimitMs);
  for (;;) {
    const bytes = await stream.read({ signal });
    if (bytes === undefined) return "done";
    const message = JSON.parse(new TextDecoder().decode(bytes)) as ImageMessage;
    if (message.kind === "done") return "done";
    if (message.kind === "merging" || message.totalBytes > 0) return "coming";
  }
}
