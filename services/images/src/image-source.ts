/** Where an image comes from: a registry, a directory in OCI layout, or an archive of `docker save`. */
import type { Descriptor } from "./manifest.ts";

export interface BlobStream {
  readonly body: AsyncIterable<Uint8Array>;
  /** Where `body` starts: the offset asked for, or 0 when the source cannot resume. */
  readonly offset: number;
}

export interface ImageSource extends AsyncDisposable {
  /** A manifest or index; without a digest, the one that the reference names. Bytes are not yet verified. */
  manifest(digest: string | undefined, signal: AbortSignal): Promise<Buffer>;
  /** Contents of a blob from `offset` on. Bytes are not yet verified. */
  blob(descriptor: Descriptor, offset: number, signal: AbortSignal): Promise<BlobStream>;
}
