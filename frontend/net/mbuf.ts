/**
 * The mbuf, as far as network drivers need it: a piece of packet data, chained to the next piece.
 *
 *   m ─────────► m.next ─────► undefined
 *   packet header: lengths, offload facts, flow; only in the first
 *   buffer[at .. at + length) each
 *
 * A chain has one owner at a time, who frees the whole chain or passes it on. The owner also owns the
 * data bytes. Storage belongs to the pool of the mbuf, or to the code that set `release`, and returns
 * there on free.
 *
 * Source: FreeBSD sys/sys/mbuf.h; mbuf(9).
 */
import { copyBytes } from "../../shared/bytes/copy.ts";

/** CSUM_* of sys/mbuf.h. The first group asks the device on transmit, the second reports on receive. */
export const Csum = {
  IP: 0x1,
  IP_UDP: 0x2,
  IP_TCP: 0x4,
  IP_TSO: 0x10,
  IP6_UDP: 0x200,
  IP6_TCP: 0x400,
  IP6_TSO: 0x1000,

  /** Checked by the device, and found right. */
  L3_CALC: 0x1000000,
  L3_VALID: 0x2000000,
  L4_CALC: 0x4000000,
  L4_VALID: 0x8000000,
} as const;

/** M_HASHTYPE_* of sys/mbuf.h: what `flowId` is a hash of. 0x80 says that it has hash properties. */
export const HashType = {
  NONE: 0,
  RSS_IPV4: 0x81,
  RSS_TCP_IPV4: 0x82,
  RSS_IPV6: 0x83,
  RSS_TCP_IPV6: 0x84,
  RSS_UDP_IPV4: 0x87,
  RSS_UDP_IPV6: 0x89,
  OPAQUE_HASH: 0xbf,
} as const;

const NO_BYTES = new Uint8Array(0);
/** Of a fact: nobody has looked for it in this packet. */
export const UNKNOWN = -1;

/** Takes the storage back. Runs inside `free`, before anybody else can get the mbuf. */
export type Release = (m: Mbuf) => void;

export class Mbuf {
  /** Storage, and the data in it. */
  buffer: Uint8Array = NO_BYTES;
  at = 0;
  length = 0;
  next: Mbuf | undefined = undefined;
  /** Where free returns it: undefined for an mbuf that is made by hand and not reused. */
  release: Release | undefined = undefined;
  /** True between free and the next use; guards against a second free. */
  freed = false;
  /** For whoever owns external storage: a slot number, say. */
  cookie = 0;
  /** Of an mbuf of a pool: the number of its cluster, and the offset of the cluster in `buffer`. */
  cluster = NO_CLUSTER;
  clusterAt = 0;

  // Packet header; holds in the first mbuf of a chain.
  /** Bytes of the whole chain. */
  pktLength = 0;
  /** Csum bits. */
  csumFlags = 0;
  /** As in virtio_net_hdr: the sum runs from csumStart to the end and lies csumOffset bytes on. */
  csumStart = 0;
  csumOffset = 0;
  /** Payload bytes of each segment, with IP_TSO or IP6_TSO. */
  tsoSegsz = 0;
  /** Ethernet + IP + TCP header bytes, with IP_TSO or IP6_TSO. */
  headerLength = 0;
  isIp6 = false;
  /** Where the IP header begins; 0 in a frame without one, UNKNOWN until somebody has looked. */
  l3Offset = UNKNOWN;
  /** The stack behind a TSO packet understands ECN. */
  gsoEcn = false;
  flowId = 0;
  /** HashType. */
  hashType = 0;
  /** Names all sightings of one frame in captures; 0 when nobody asked. */
  frameId = 0;

  /** Puts other storage behind this mbuf and forgets the last packet. */
  attach(buffer: Uint8Array, at: number, length: number, release: Release | undefined): void {
    this.buffer = buffer;
    this.at = at;
    this.length = length;
    this.release = release;
    this.resetHeader();
    this.pktLength = length;
  }

  /** Alone, with a clean packet header, alive. Data pointers stay. */
  resetHeader(): void {
    this.next = undefined;
    this.freed = false;
    this.pktLength = 0;
    this.csumFlags = 0;
    this.csumStart = 0;
    this.csumOffset = 0;
    this.tsoSegsz = 0;
    this.headerLength = 0;
    this.isIp6 = false;
    this.l3Offset = UNKNOWN;
    this.gsoEcn = false;
    this.flowId = 0;
    this.hashType = 0;
    this.frameId = 0;
  }

  /** m_freem(9): this mbuf and all behind it. Twice is a bug of ours, and throws. */
  free(): void {
    let m: Mbuf | undefined = this;
    while (m !== undefined) {
      const next: Mbuf | undefined = m.next;
      m.freeOne();
      m = next;
    }
  }

  /** m_free(9): this one only. Returns what was behind it. */
  freeOne(): Mbuf | undefined {
    if (this.freed) throw new Error("mbuf freed twice");
    const next = this.next;
    this.next = undefined;
    this.freed = true;
    this.release?.(this);
    return next;
  }
}

/** Clusters of a slab: a power of two. */
const SLAB_SHIFT = 14;
const SLAB_CLUSTERS = 1 << SLAB_SHIFT;
const LINE_BYTES = 64;
/** Stands for no cluster. */
export const NO_CLUSTER = -1;

/**
 * Clusters (buffers of equal size), and mbufs to put on them. They are made when first needed,
 * never more than `limit` clusters.
 *
 *   slab   | cluster 0 | line | cluster 1 | line | ...
 *
 * A cluster is known by its number. A receive ring holds numbers, and puts an mbuf on a cluster when
 * its packet goes up the stack.
 *
 * A slab is large. The system then gives it a page only when a cluster in that page is written, so a
 * buffer that waits in a ring costs no memory before its first frame. (Node takes slabs below 32 MiB
 * from malloc's heap and clears them, which writes every page.)
 *
 * Clusters and mbufs are used last in, first out, because the last
 * ones are still in the cache. A cluster begins a cache line after the end of the one before it:
 * clusters at multiples of a page would all share a few sets of the cache.
 */
export class MbufPool {
  readonly clusterBytes: number;
  readonly limit: number;
  /** Clusters out of the pool, with an mbuf or without. */
  inUse = 0;
  readonly #stride: number;
  readonly #slabs: Uint8Array[] = [];
  #made = 0;
  readonly #clusters: number[] = [];
  readonly #mbufs: Mbuf[] = [];
  readonly #release: Release = (m) => {
    this.give(m.cluster);
    this.#mbufs.push(m);
  };

  constructor(clusterBytes: number, limit: number) {
    this.clusterBytes = clusterBytes;
    this.limit = limit;
    this.#stride = clusterBytes + LINE_BYTES;
  }

  /** m_getjcl(9): empty, data at the cluster's first byte, `at`. Undefined at the limit. */
  get(): Mbuf | undefined {
    const cluster = this.take();
    return cluster === NO_CLUSTER ? undefined : this.mbuf(cluster, 0);
  }

  /** Returns the number of a free cluster, or NO_CLUSTER at the limit. */
  take(): number {
    const cluster = this.#clusters.pop() ?? this.#make();
    if (cluster !== NO_CLUSTER) this.inUse++;
    return cluster;
  }

  /** Takes back a cluster without an mbuf. */
  give(cluster: number): void {
    this.inUse--;
    this.#clusters.push(cluster);
  }

  /** Memory of the cluster: `clusterBytes` bytes from `offset`. */
  slab(cluster: number): Uint8Array {
    return this.#slabs[cluster >>> SLAB_SHIFT]!;
  }

  offset(cluster: number): number {
    return (cluster & (SLAB_CLUSTERS - 1)) * this.#stride;
  }

  /** Returns an mbuf with the first `length` bytes of a cluster. Its `free` gives both back. */
  mbuf(cluster: number, length: number): Mbuf {
    const m = this.#mbufs.pop() ?? new Mbuf();
    m.clusterAt = this.offset(cluster);
    m.cluster = cluster;
    m.attach(this.slab(cluster), m.clusterAt, length, this.#release);
    return m;
  }

  #make(): number {
    if (this.#made === this.limit) return NO_CLUSTER;
    if ((this.#made & (SLAB_CLUSTERS - 1)) === 0) {
      const clusters = Math.min(SLAB_CLUSTERS, this.limit - this.#made);
      this.#slabs.push(new Uint8Array(clusters * this.#stride));
    }
    return this.#made++;
  }
}

/** m_length(9): data bytes of the chain, counted. */
export function mLength(m: Mbuf): number {
  let bytes = 0;
  for (let n: Mbuf | undefined = m; n !== undefined; n = n.next) bytes += n.length;
  return bytes;
}

/** The byte at `at` of the chain, 0 beyond its end. m_getptr(9), for headers. */
export function mbufByte(m: Mbuf, at: number): number {
  let piece: Mbuf | undefined = m;
  let skip = at;
  while (piece !== undefined && skip >= piece.length) {
    skip -= piece.length;
    piece = piece.next;
  }
  return piece === undefined ? 0 : piece.buffer[piece.at + skip]!;
}

/** m_copydata(9): `length` bytes from byte `from` of the chain; they must be there. */
export function mCopyData(
  m: Mbuf,
  from: number,
  length: number,
  dst: Uint8Array,
  dstAt: number,
): void {
  let piece: Mbuf | undefined = m;
  let skip = from;
  let at = dstAt;
  let left = length;
  while (left > 0) {
    if (piece === undefined) throw new RangeError(`${left} bytes beyond the end of an mbuf chain`);
    if (skip >= piece.length) {
      skip -= piece.length;
    } else {
      const n = Math.min(left, piece.length - skip);
      copyBytes(piece.buffer, piece.at + skip, dst, at, n);
      skip = 0;
      at += n;
      left -= n;
    }
    piece = piece.next;
  }
}
