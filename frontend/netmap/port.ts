/**
 * The application's view of an open port, in any thread: the bound rings, the buffers of their
 * slots, and the extra buffers.
 *
 *   const tx = port.txRing(port.firstTx);
 *   while (!tx.isEmpty) {
 *     const slot = tx.head;
 *     frame.copy(port.buffer(tx.bufIdx(slot)));  tx.setLen(slot, frame.length);
 *     tx.advance(tx.next(slot));                 then txsync or poll
 *   }
 *
 * It is built only from the netmap_if in the shared region, as in a C program.
 */
import { Poll, Txrx } from "./flags.ts";
import { bufsHead, parseIf, ringOfs, setBufsHead } from "./layout.ts";
import { NetmapRing } from "./ring.ts";

/** Can be passed to another thread by postMessage or workerData. */
export interface PortPlace {
  readonly name: string;
  readonly region: SharedArrayBuffer;
  /** Offset in the region of the netmap_if. */
  readonly ifAt: number;
  readonly firstTx: number;
  readonly lastTx: number;
  readonly firstRx: number;
  readonly lastRx: number;
  /** Offset in the region of buffer 0, bytes of each buffer, number of buffers. */
  readonly buffersAt: number;
  readonly bufSize: number;
  readonly objTotal: number;
}

/** The rings to which an open port is bound, as `struct netmap_if` lists them. */
export class PortRings {
  readonly name: string;
  /** Rings [firstTx, lastTx) and [firstRx, lastRx) are bound; host rings follow the NIC's. */
  readonly firstTx: number;
  readonly lastTx: number;
  readonly firstRx: number;
  readonly lastRx: number;
  /** Number of rings of the port, bound or not. */
  readonly nicTxRings: number;
  readonly nicRxRings: number;
  readonly hostTxRings: number;
  readonly hostRxRings: number;
  /** Bytes of a buffer. */
  readonly bufSize: number;
  /** All of the shared region. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  readonly place: PortPlace;
  readonly #view: DataView<SharedArrayBuffer>;
  readonly #rings: readonly [(NetmapRing | undefined)[], (NetmapRing | undefined)[]];
  /** One view for each buffer, created at its first use. */
  readonly #buffers: (Uint8Array<SharedArrayBuffer> | undefined)[] = [];

  constructor(place: PortPlace) {
    this.place = place;
    this.name = place.name;
    this.firstTx = place.firstTx;
    this.lastTx = place.lastTx;
    this.firstRx = place.firstRx;
    this.lastRx = place.lastRx;
    this.bufSize = place.bufSize;
    this.bytes = new Uint8Array(place.region);
    this.#view = new DataView(place.region);
    const nifp = parseIf(this.#view, place.ifAt);
    this.nicTxRings = nifp.txRings;
    this.nicRxRings = nifp.rxRings;
    this.hostTxRings = nifp.hostTxRings;
    this.hostRxRings = nifp.hostRxRings;
    const tx = nifp.txRings + nifp.hostTxRings;
    const rx = nifp.rxRings + nifp.hostRxRings;
    this.#rings = [this.#ringsFrom(tx, rx), this.#ringsFrom(0, tx)];
  }

  #ringsFrom(first: number, count: number): (NetmapRing | undefined)[] {
    const { ifAt, region } = this.place;
    return Array.from({ length: count }, (_, i) => {
      const offset = ringOfs(this.#view, ifAt, first + i);
      return offset === 0 ? undefined : new NetmapRing(region, ifAt + offset);
    });
  }

  /** NETMAP_TXRING: throws a RangeError for a ring that this port did not bind. */
  txRing(i: number): NetmapRing {
    return this.#ring(Txrx.TX, i, "transmit");
  }
  /** NETMAP_RXRING */
  rxRing(i: number): NetmapRing {
    return this.#ring(Txrx.RX, i, "receive");
  }

  #ring(t: Txrx, i: number, what: string): NetmapRing {
    const ring = this.#rings[t][i];
    if (ring === undefined) throw new RangeError(`${this.name}: ${what} ring ${i} is not bound`);
    return ring;
  }

  /** The bound rings, in order. For set-up and not for loops: it allocates. */
  txRings(): NetmapRing[] {
    return this.#rings[Txrx.TX].filter((ring) => ring !== undefined);
  }
  /** Returns the receive rings to which the port is bound. */
  rxRings(): NetmapRing[] {
    return this.#rings[Txrx.RX].filter((ring) => ring !== undefined);
  }

  /** NETMAP_BUF: all bytes of a buffer. It allocates only at the first call for a buffer. */
  buffer(bufIdx: number): Uint8Array<SharedArrayBuffer> {
    const known = this.#buffers[bufIdx];
    if (known !== undefined) return known;
    const view = new Uint8Array(this.place.region, this.bufferAt(bufIdx), this.bufSize);
    this.#buffers[bufIdx] = view;
    return view;
  }

  /** Offset of the buffer in `bytes`. Throws a RangeError for an invalid index. */
  bufferAt(bufIdx: number): number {
    const { buffersAt, objTotal } = this.place;
    if (!(bufIdx >= 0 && bufIdx < objTotal)) {
      throw new RangeError(`${this.name}: there is no buffer ${bufIdx}`);
    }
    return buffersAt + bufIdx * this.bufSize;
  }

  /** ni_bufs_head: the first extra buffer, or 0. */
  get bufsHead(): number {
    return bufsHead(this.#view, this.place.ifAt);
  }
  set bufsHead(bufIdx: number) {
    setBufsHead(this.#view, this.place.ifAt, bufIdx);
  }

  /** Removes a buffer from the list of extra buffers. Returns 0 when the list is empty. */
  takeExtra(): number {
    const head = this.bufsHead;
    if (head !== 0) this.bufsHead = this.#view.getUint32(this.bufferAt(head), true);
    return head;
  }

  /** Adds a buffer to the list of extra buffers. All must be back before the port is closed. */
  giveExtra(bufIdx: number): void {
    this.#view.setUint32(this.bufferAt(bufIdx), this.bufsHead, true);
    this.bufsHead = bufIdx;
  }

  /** The Poll bits of `wanted` that hold: a transmit ring has room, or a receive ring frames, beyond cur. */
  ready(wanted: number): number {
    let result = 0;
    if ((wanted & Poll.IN) !== 0 && anyBeyondCur(this.#rings[Txrx.RX])) result |= Poll.IN;
    if ((wanted & Poll.OUT) !== 0 && anyBeyondCur(this.#rings[Txrx.TX])) result |= Poll.OUT;
    return result;
  }
}

function anyBeyondCur(rings: readonly (NetmapRing | undefined)[]): boolean {
  for (let i = 0; i < rings.length; i++) {
    const ring = rings[i];
    if (ring !== undefined && ring.cur !== ring.tail) return true;
  }
  return false;
}
