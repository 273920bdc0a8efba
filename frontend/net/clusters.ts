/**
 * Receive buffers of equal size (mbuf clusters), known by number. An mbuf is put on a cluster only
 * when its packet goes up the stack.
 *
 *   slab   | cluster 0 | line | cluster 1 | line | ...      CLUSTERS clusters
 *
 * A slab is large. The system then gives it a page only when a cluster in that page is written, so a
 * buffer that waits in a ring costs no memory before its first frame. (Node takes smaller slabs from
 * malloc's heap and clears them, which writes every page.)
 *
 * Both clusters and mbufs are used last in, first out: the last ones are still in the cache. A
 * cluster begins a cache line after the end of the one before it, because clusters at multiples of
 * a page would all share a few sets of the cache.
 */
import { Mbuf } from "./mbuf.ts";

/** Clusters of a slab: a power of two. They are more than 32 MiB. */
const SLAB_SHIFT = 14;
const CLUSTERS = 1 << SLAB_SHIFT;
const LINE_BYTES = 64;
/** Stands for no cluster. */
export const NO_CLUSTER = -1;

export class ClusterPool {
  readonly clusterBytes: number;
  readonly limit: number;
  /** Clusters out of the pool, with an mbuf or without. */
  inUse = 0;
  readonly #stride: number;
  readonly #slabs: Uint8Array[] = [];
  #made = 0;
  readonly #free: Uint32Array;
  #freeCount = 0;
  readonly #mbufs: Mbuf[] = [];
  readonly #release = (m: Mbuf): void => {
    this.give(m.cookie);
    this.#mbufs.push(m);
  };

  constructor(clusterBytes: number, limit: number) {
    this.clusterBytes = clusterBytes;
    this.limit = limit;
    this.#stride = clusterBytes + LINE_BYTES;
    this.#free = new Uint32Array(limit);
  }

  /** Returns the number of a free cluster, or NO_CLUSTER at the limit. */
  take(): number {
    if (this.#freeCount === 0 && this.#made === this.limit) return NO_CLUSTER;
    this.inUse++;
    if (this.#freeCount > 0) return this.#free[--this.#freeCount]!;
    if ((this.#made & (CLUSTERS - 1)) === 0) {
      const clusters = Math.min(CLUSTERS, this.limit - this.#made);
      this.#slabs.push(new Uint8Array(clusters * this.#stride));
    }
    return this.#made++;
  }

  /** Takes a cluster back. */
  give(cluster: number): void {
    this.inUse--;
    this.#free[this.#freeCount++] = cluster;
  }

  /** Memory of the cluster: clusterBytes from its offset. */
  slab(cluster: number): Uint8Array {
    return this.#slabs[cluster >>> SLAB_SHIFT]!;
  }

  offset(cluster: number): number {
    return (cluster & (CLUSTERS - 1)) * this.#stride;
  }

  /** Returns an mbuf with the first `length` bytes of a cluster. Its `free` gives both back. */
  mbuf(cluster: number, length: number): Mbuf {
    const m = this.#mbufs.pop() ?? new Mbuf();
    m.attach(this.slab(cluster), this.offset(cluster), length, this.#release);
    m.cookie = cluster;
    return m;
  }
}
