/**
 * Software LRO of one Rx ring: joins in-order TCP segments of a burst into one super-frame before
 * the stack sees them, as tcp_lro does for FreeBSD's drivers. The rules are frontend/net/lro-merge.ts's;
 * here is what joining means for mbufs.
 */
import { Frame, Gso, MAX_SPANS } from "../../shared/net/frame.ts";
import type { Headers } from "../../shared/net/headers.ts";
import { frameOver } from "./facts.ts";
import { Lro, type LroMerge, type LroSink } from "./lro-merge.ts";
import { Csum, type Mbuf } from "./mbuf.ts";

/** Pieces of a merged chain: a frame takes no more spans. */
const MAX_CHAIN = MAX_SPANS;

/** Where a ring counts: segments put behind another, super-frames passed on. */
export interface LroStats {
  lro_queued: number;
  lro_flushed: number;
}

export class LroQueue implements LroSink<Mbuf> {
  readonly #lro: Lro<Mbuf>;
  readonly #frame = new Frame();
  readonly #stats: LroStats;
  readonly #input: (m: Mbuf) => void;

  constructor(stats: LroStats, input: (m: Mbuf) => void) {
    this.#stats = stats;
    this.#input = input;
    this.#lro = new Lro<Mbuf>(this);
  }

  /** Takes a TCP packet; it reaches the stack at once, merged with others, or at `flush`. */
  offer(m: Mbuf, csumValid: boolean): void {
    // The headers are in front: pieces beyond what a frame can have don't matter here.
    frameOver(m, this.#frame);
    this.offerParsed(this.#frame.headers(), m, csumValid);
  }

  /** As `offer`, for whoever has parsed the headers in place. */
  offerParsed(h: Headers, m: Mbuf, csumValid: boolean): void {
    this.#lro.input(h, m.pktLength, csumValid, m);
  }

  flush(): void {
    this.#lro.flush();
  }

  append(head: Mbuf, item: Mbuf, headerBytes: number): boolean {
    let pieces = 1;
    let last = head;
    while (last.next !== undefined) {
      last = last.next;
      pieces++;
    }
    for (let piece: Mbuf | undefined = item; piece !== undefined; piece = piece.next) pieces++;
    if (pieces > MAX_CHAIN) return false;
    const payload = trimFront(item, headerBytes);
    head.pktLength += item.pktLength - headerBytes;
    last.next = payload;
    this.#stats.lro_queued++;
    return true;
  }

  deliver(m: Mbuf, merged: LroMerge | undefined): void {
    if (merged !== undefined) {
      const v6 = merged.gso === Gso.TCPV6;
      // The sum in the merged header is the pseudo header's: the same bits that ask for TSO say so.
      m.csumFlags = v6 ? Csum.IP6_TSO | Csum.IP6_TCP : Csum.IP_TSO | Csum.IP_TCP;
      m.csumStart = merged.csumStart;
      m.csumOffset = merged.csumOffset;
      m.tsoSegsz = merged.gsoSize;
      m.headerLength = merged.headerLength;
      m.isIp6 = v6;
      this.#stats.lro_flushed++;
    }
    this.#input(m);
  }
}

/** m_adj(9): drops the first `bytes` bytes, which are not all there is. Returns what is left. */
function trimFront(m: Mbuf, bytes: number): Mbuf | undefined {
  let piece: Mbuf | undefined = m;
  let left = bytes;
  while (piece !== undefined && left >= piece.length) {
    left -= piece.length;
    piece = piece.freeOne();
  }
  if (piece !== undefined) {
    piece.at += left;
    piece.length -= left;
  }
  return piece;
}
