/**
 * The merged view of an image's layers, in memory.
 *
 * Nothing is unpacked: a node remembers the layer file and the offset where its contents lie, so that no
 * path of an image ever becomes a path of the host. Rules: OCI image spec, "Image Layer Filesystem
 * Changeset". A whiteout hides what lower layers put there, never what its own layer puts there, in
 * whichever order the layer lists them; for this every node knows the last layer that touched it.
 */
import { hostile, type TarEntry } from "./tar-reader.ts";

export interface Inode {
  readonly type: "file" | "directory" | "symlink" | "fifo";
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly xattrs: ReadonlyMap<string, string>;
  readonly linkName: string;
  /** Index of the layer file that holds the contents. */
  readonly layer: number;
  readonly offset: number;
  readonly size: number;
}

/** A name in a directory. Hard links are nodes that share one inode. */
export interface TreeNode {
  inode: Inode;
  touchedBy: number;
  readonly children: Map<string, TreeNode>;
}

const whiteoutPrefix = ".wh.";
const opaqueWhiteout = ".wh..wh..opq";
const maxSymlinkHops = 40;
const maxDepth = 256;

export class LayerTree {
  readonly root: TreeNode = directoryNode(0);

  /** @throws HearthError `image_layer_hostile` */
  apply(entry: TarEntry, layer: number): void {
    const parts = components(entry.name);
    const name = parts.pop();
    if (name === undefined) {
      if (entry.type === "directory") this.root.inode = inodeOf(entry, layer);
      return;
    }
    if (entry.type === "device") throw hostile("it has a device node", entry.name);
    const parent = this.#directory(parts, layer, entry.name);
    if (name === opaqueWhiteout) pruneChildren(parent, layer);
    else if (name.startsWith(whiteoutPrefix)) this.#whiteout(parent, name, layer);
    else this.#place(parent, name, entry, layer);
  }

  #whiteout(parent: TreeNode, name: string, layer: number): void {
    // AUFS bookkeeping (`.wh..wh.plnk`, `.wh..wh.aufs`) describes the builder's disk, not the image.
    if (name.startsWith(".wh..wh.")) return;
    const hidden = name.slice(whiteoutPrefix.length);
    const node = parent.children.get(hidden);
    if (node !== undefined && prune(node, layer)) parent.children.delete(hidden);
  }

  #place(parent: TreeNode, name: string, entry: TarEntry, layer: number): void {
    const existing = parent.children.get(name);
    if (entry.type === "hardlink") {
      const target = this.#lookup(components(entry.linkName), entry.name);
      if (target.inode.type === "directory") throw hostile("it has a hard link to a directory", entry.name);
      parent.children.set(name, { inode: target.inode, touchedBy: layer, children: new Map() });
      return;
    }
    const inode = inodeOf(entry, layer);
    if (existing !== undefined && existing.inode.type === "directory" && inode.type === "directory") {
      existing.inode = inode;
      existing.touchedBy = layer;
      return;
    }
    parent.children.set(name, { inode, touchedBy: layer, children: new Map() });
  }

  /**
   * The directory at `parts`, made when it is not there. Symlinks on the way are followed inside the tree:
   * images with `/bin -> usr/bin` rely on it, and no link can leave a tree that has no outside.
   */
  #directory(parts: readonly string[], layer: number, name: string): TreeNode {
    const stack: [string, TreeNode][] = [["", this.root]];
    const pending = [...parts];
    let hops = 0;
    while (true) {
      const part = pending.shift();
      if (part === undefined) break;
      if (part === "..") {
        if (stack.length > 1) stack.pop();
        continue;
      }
      const here = last(stack);
      const child = here.children.get(part);
      if (child?.inode.type === "symlink") {
        if (++hops > maxSymlinkHops) throw hostile("it writes through a loop of symlinks", name);
        if (child.inode.linkName.startsWith("/")) stack.length = 1;
        pending.unshift(...child.inode.linkName.split("/").filter((step) => step !== "" && step !== "."));
      } else if (child?.inode.type === "directory") {
        stack.push([part, child]);
      } else {
        // Absent, or a file of a lower layer that this layer turns into a directory without saying so.
        const made = directoryNode(layer);
        here.children.set(part, made);
        stack.push([part, made]);
      }
      if (stack.length > maxDepth) throw hostile("its directories are nested too deeply", name);
    }
    for (const [, node] of stack) node.touchedBy = layer;
    return last(stack);
  }

  /** The node that a hard link names; parents may be symlinks, the last component is taken as it is. */
  #lookup(parts: readonly string[], name: string): TreeNode {
    const pending = [...parts];
    const stack: TreeNode[] = [this.root];
    let hops = 0;
    while (true) {
      const part = pending.shift();
      const here = stack.at(-1);
      if (here === undefined) throw hostile("it has a hard link to nothing", name);
      if (part === undefined) return here;
      if (part === "..") {
        if (stack.length > 1) stack.pop();
        continue;
      }
      const child = here.children.get(part);
      if (child === undefined) throw hostile("it has a hard link to nothing in the image", name);
      if (child.inode.type === "symlink" && pending.length > 0) {
        if (++hops > maxSymlinkHops) throw hostile("it links through a loop of symlinks", name);
        if (child.inode.linkName.startsWith("/")) stack.length = 1;
        pending.unshift(...child.inode.linkName.split("/").filter((step) => step !== "" && step !== "."));
      } else {
        stack.push(child);
      }
    }
  }
}

/** Removes what layers below `layer` left under `node`; true when nothing of `layer` remains. */
function prune(node: TreeNode, layer: number): boolean {
  if (node.touchedBy < layer) return true;
  pruneChildren(node, layer);
  return false;
}

function pruneChildren(node: TreeNode, layer: number): void {
  for (const [name, child] of node.children) if (prune(child, layer)) node.children.delete(name);
}

/**
 * Splits a path of an archive. A leading slash means the image's root, as it does to every runtime (some
 * builders write all names so); a `..` has no honest use and is refused.
 */
function components(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw hostile("a path leaves the image's root", path);
  if (parts.some((part) => part.length > 255)) throw hostile("a name is too long", path);
  return parts;
}

function inodeOf(entry: TarEntry, layer: number): Inode {
  const { type } = entry;
  if (type === "device" || type === "hardlink") throw hostile("it has an unexpected entry", entry.name);
  if (type === "symlink" && entry.linkName === "") throw hostile("it has an empty symlink", entry.name);
  const { mode, uid, gid, mtimeSeconds, xattrs, linkName, offset, size } = entry;
  return { type, mode, uid, gid, mtimeSeconds, xattrs, linkName, layer, offset, size };
}

function directoryNode(layer: number): TreeNode {
  const inode: Inode = {
    type: "directory",
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtimeSeconds: 0,
    xattrs: new Map(),
    linkName: "",
    layer,
    offset: 0,
    size: 0,
  };
  return { inode, touchedBy: layer, children: new Map() };
}

function last(stack: readonly [string, TreeNode][]): TreeNode {
  const top = stack.at(-1);
  if (top === undefined) throw hostile("it has a path without a root");
  return top[1];
}
