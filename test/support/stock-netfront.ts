/**
 * A model of a stock netfront's rings, written from the specification and without our own code: the
 * requests of a packet with their flags, sizes and ids, the event index, and the notifications.
 *
 * Source: freebsd-src: sys/dev/xen/netfront/netfront.c; xen: xen/include/public/io/{ring,netif}.h.
 */

/** A packet for the model: the length of each piece, at most a page. */
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
  /** Free ids; the last one is used next. */
  readonly #free = Array.from({ length: RING }, (_, i) => RING - i);
  /** Ids in use. */
  readonly #out: number[] = [];

  /** The ring slots of a packet as text: `ID FLAGS SIZE`, or `gso TYPE MSS`. */
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

  /** The backend responds to everything, in order. Returns the new event index. */
  txDone(): number {
    // Responses come in order, and the id freed last is used next.
    this.#free.push(...this.#out.splice(0));
    // The rule is half of the outstanding requests, plus one. None is outstanding here.
    return this.txProd + 1;
  }

  /** Ids of the receive requests that fill the ring up. */
  fill(): number[] {
    const ids: number[] = [];
    while (this.rxProd - this.#rxCons < RING) ids.push(this.rxProd++ % RING);
    return ids;
  }

  /** `slots` responses arrived. Returns the ids of the new requests, and the event index. */
  received(slots: number): { ids: number[]; event: number } {
    this.#rxCons += slots;
    return { ids: this.fill(), event: this.#rxCons + 1 };
  }

  /** RING_PUSH_REQUESTS_AND_CHECK_NOTIFY: whether the backend is notified. */
  static notifies(before: number, after: number, event: number): boolean {
    return (after - event) >>> 0 < (after - before) >>> 0;
  }
}
