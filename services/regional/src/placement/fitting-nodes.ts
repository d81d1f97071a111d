/**
 * Nodes in the order of how tightly a machine fits: by free memory, then by id. One sorted array: ten thousand nodes
 * are eighty kilobytes to move at worst, which takes a few microseconds.
 */
import { tighter } from "./placement.ts";

export interface Place {
  readonly free_memory_mb: number;
  readonly node_id: string;
}

export class FittingNodes<Node extends Place> {
  readonly #sorted: Node[] = [];

  get size(): number {
    return this.#sorted.length;
  }

  add(node: Node): void {
    this.#sorted.splice(this.#first(node), 0, node);
  }

  /** @param place where it was added, if it has changed since */
  remove(place: Place): void {
    const at = this.#first(place);
    const found = this.#sorted[at];
    if (found !== undefined && tighter(found, place) === 0) this.#sorted.splice(at, 1);
  }

  countBelow(memoryMb: number): number {
    return this.#first({ free_memory_mb: memoryMb, node_id: "" });
  }

  /** From the tightest that has so much. Nodes may be moved between two steps: it goes on from the last place. */
  *from(memoryMb: number): Generator<Node> {
    let at = this.countBelow(memoryMb);
    for (let node = this.#sorted[at]; node !== undefined; node = this.#sorted[at]) {
      const { free_memory_mb, node_id } = node;
      yield node;
      at = this.#sorted[at] === node ? at + 1 : this.#first({ free_memory_mb, node_id: `${node_id}\0` });
    }
  }

  /** The first that does not come before the place. */
  #first(place: Place): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (tighter(this.#sorted[middle] as Node, place) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
