/**
 * What a stock netfront does to its rings, written down by hand from its rules and nothing of ours:
 * which requests a packet becomes, with which flags, sizes and ids, where the event index goes, and
 * when the backend is notified.
 *
 * Source: freebsd-src: sys/dev/xen/netfront/netfront.c; xen: xen/include/public/io/{ring,netif}.h.
 */

/** A packet for the model: bytes of each piece, none longer than a page. */
export interface StockPacket {
  readonly pieces: readonly number[];
  readonly csum?: boolean;
  readonly mss?: number;
}

const RING = 256;

export class StockNetfront {
  txProd = 0;
  rxProd = 0;
  #rxCons = 0;
  /** Free ids, next one last. */
  readonly #free = Array.from({ length: RING }, (_, i) => RING - i);
  /** Ids that are out. */
  readonly #out: number[] = [];

  /** The slots that a packet becomes, in words: `ID FLAGS SIZE`, or `gso TYPE MSS`. */
  send({ pieces, csum, mss }: StockPacket): string[] {
    const total = pieces.reduce((a, b) => a + b, 0);
    const slots = pieces.flatMap((bytes, i) => {
      const id = this.#free.pop()!;
      this.#out.push(id);
      const flags: string[] = [];
      if (i === 0 && csum) flags.push("blank", "validated");
      if (i < pieces.length - 1) flags.push("more");
      const gso = i === 0 && mss !== undefined;
      if (gso) flags.push("extra");
      const slot = `${id} ${flags.join("+")} ${i === 0 ? total : bytes}`;
      return gso ? [slot, `gso 1 ${mss}`] : [slot];
    });
    this.txProd += slots.length;
    return slots;
  }

  /** The backend answers everything, in order. Returns the event index that follows. */
  txDone(): number {
    // Answered in order; an id that comes back is the next to be used.
    this.#free.push(...this.#out.splice(0));
    // Half of what is out, and one. Nothing is.
    return this.txProd + 1;
  }

  /** Ids of the receive requests that fill the ring up. */
  fill(): number[] {
    const ids: number[] = [];
    while (this.rxProd - this.#rxCons < RING) ids.push(this.rxProd++ % RING);
    return ids;
  }

  /** `slots` responses came. Returns ids of the new requests, and the event index. */
  received(slots: number): { ids: number[]; event: number } {
    this.#rxCons += slots;
    return { ids: this.fill(), event: this.#rxCons + 1 };
  }

  /** RING_PUSH_REQUESTS_AND_CHECK_NOTIFY: is the backend told? */
  static notifies(before: number, after: number, event: number): boolean {
    return (after - event) >>> 0 < (after - before) >>> 0;
  }
}
