/**
 * Merges an image's layers into one read-only squashfs file.
 *
 * The layers are decompressed tar files on disk. Their headers become a tree (layer-tree.ts), and the tree
 * is written as one tar stream into `sqfstar`. `sqfstar` and not `tar2sqfs`: it keeps xattrs and hard
 * links, takes the root's owner and mode as options, and its lz4 images are read back by every tool.
 */
import { spawn } from "node:child_process";
import { open } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { HearthError } from "@hearth/errors";
import { LayerTree } from "./layer-tree.ts";
import { hostile, readTar } from "./tar-reader.ts";
import { walk, writeTar } from "./tar-writer.ts";

export interface MergeLimits {
  /** Entries over all layers, whiteouts included. */
  readonly maxEntries: number;
  /** Bytes of file contents in the merged tree. */
  readonly maxBytes: number;
}

export const defaultMergeLimits: MergeLimits = { maxEntries: 1_000_000, maxBytes: 64 * 1024 ** 3 };

export interface MergeOptions {
  /** Decompressed layer tars, lowest first. */
  readonly layerPaths: readonly string[];
  /** A file that does not exist yet; the caller renames it into place. */
  readonly outputPath: string;
  readonly signal: AbortSignal;
  readonly limits?: MergeLimits;
}

/** @throws HearthError `image_layer_hostile`, `image_too_large`, `disk_full` */
export async function mergeLayers(options: MergeOptions): Promise<void> {
  const limits = options.limits ?? defaultMergeLimits;
  await using layers = new AsyncDisposableStack();
  const files = [];
  for (const path of options.layerPaths) {
    const file = await open(path, "r");
    layers.defer(() => file.close());
    files.push(file);
  }
  const tree = new LayerTree();
  let entries = 0;
  for (const [layer, file] of files.entries()) {
    for await (const entry of readTar(file, options.signal)) {
      if (++entries > limits.maxEntries) throw hostile("it has too many entries");
      tree.apply(entry, layer);
    }
  }
  let bytes = 0;
  const counted = new Set();
  for (const [, node] of walk(tree.root)) {
    if (counted.has(node.inode)) continue;
    counted.add(node.inode);
    bytes += node.inode.size;
  }
  if (bytes > limits.maxBytes)
    throw new HearthError("image_too_large", { details: { limitBytes: limits.maxBytes } });
  await runSqfstar(tree, Readable.from(writeTar(tree.root, files)), options);
}

async function runSqfstar(tree: LayerTree, tar: Readable, options: MergeOptions): Promise<void> {
  const root = tree.root.inode;
  // `sqfstar` 4.5 stamps the root and the superblock with the present, whatever -root-time says; only this
  // variable stops it. It also cuts later times down to itself, hence the latest time of the tree.
  const env = { ...process.env, SOURCE_DATE_EPOCH: `${latestTime(tree)}` };
  const child = spawn(
    "sqfstar",
    [
      // Its search for duplicates is quadratic in files of one size: minutes for a large node_modules.
      ...[
        "-comp",
        "lz4",
        "-b",
        "32K",
        "-reproducible",
        "-no-duplicates",
        "-no-progress",
        "-quiet",
        "-exit-on-error",
      ],
      ...["-root-mode", root.mode.toString(8), "-root-uid", `${root.uid}`, "-root-gid", `${root.gid}`],
      options.outputPath,
    ],
    { stdio: ["pipe", "ignore", "pipe"], env, signal: options.signal, killSignal: "SIGKILL" },
  );
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    stderr = (stderr + chunk).slice(-4096);
  });
  const exit = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  const fed = pipeline(tar, child.stdin, { signal: options.signal });
  const [code, feeding] = await Promise.allSettled([exit, fed]);
  options.signal.throwIfAborted();
  if (code.status === "fulfilled" && code.value === 0 && feeding.status === "fulfilled") return;
  if (stderr.includes("No space left")) throw new HearthError("disk_full", { cause: stderr });
  const missing = code.status === "rejected" && (code.reason as NodeJS.ErrnoException).code === "ENOENT";
  if (missing) throw new HearthError("host_requirement_missing", { details: { program: "sqfstar" } });
  const reason = feeding.status === "rejected" ? feeding.reason : undefined;
  throw new HearthError("internal", { cause: stderr === "" ? reason : new Error(stderr, { cause: reason }) });
}

function latestTime(tree: LayerTree): number {
  let latest = tree.root.inode.mtimeSeconds;
  for (const [, { inode }] of walk(tree.root)) latest = Math.max(latest, inode.mtimeSeconds);
  return latest;
}
