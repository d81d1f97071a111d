/**
 * What the image service of a node does over the bus.
 *
 * Commands (`cmd.<node>.images.<name>`): `list`, `remove`, `release`.
 * Streams: `ensure` sends one JSON ImageMessage a message, the last being `done`; `import` takes the bytes of an
 * OCI layout tar or a docker archive from the caller, then sends `done`.
 */
import Type from "typebox";

const closed = { additionalProperties: false } as const;
const reference = Type.String({ minLength: 1, maxLength: 512 });

export const imageRequests = {
  list: Type.Object({}, closed),
  /** Forgets the name, and the filesystem when nothing else names or holds it. */
  remove: Type.Object({ reference }, closed),
  /** A holder is a machine id; what it holds is never removed. */
  release: Type.Object({ holder: Type.String() }, closed),
  ensure: Type.Object({ reference, holder: Type.Optional(Type.String()) }, closed),
  import: Type.Object({ reference }, closed),
} as const;

export interface NodeImage {
  readonly reference: string;
  /** Key of the chain of diff ids. */
  readonly imageId: string;
  readonly digest: string;
  /** A squashfs file on this host. */
  readonly rootfsPath: string;
  readonly sizeBytes: number;
  readonly config: {
    readonly entrypoint: readonly string[];
    readonly cmd: readonly string[];
    /** `NAME=value` */
    readonly env: readonly string[];
    readonly user: string;
    readonly workdir: string;
    readonly stopSignal: string;
    readonly labels: Readonly<Record<string, string>>;
  };
}

export type ImageMessage =
  | { readonly kind: "downloading"; readonly doneBytes: number; readonly totalBytes: number }
  | { readonly kind: "merging" }
  | { readonly kind: "done"; readonly image: NodeImage };
