/**
 * The queues. One thread runs them, each step to its end, so what the original locks is here owned:
 * the fields of a group belong to the files named above it, and no other file writes them. So it
 * is in NetfrontInfo, and of a ring's own indexes (memory.ts).
 *
 *   original            here
 *   rxq.lock            datapath-rx.ts, from its entry to its return; it hands packets on only
 *                       after the ring is in order again
 *   txq.lock            datapath-tx.ts with tx-pieces.ts, likewise; mbufs are freed only after the
 *                       ring is in order
 *   sc_lock             NetfrontInfo.lock: steps that await. No data path takes it or asks for it
 *   all of them         a step that does not await sees every queue at rest
 *
 * No field is shared by two queues: each has its tag, its maps and its counters.
 */
import { RX_RING_SLOTS, TX_RING_SLOTS } from "../../shared/xen/netif.ts";
import { LroQueue } from "../net/lro.ts";
import type { Mbuf } from "../net/mbuf.ts";
import type { GateQueue } from "../net/transmit-gate.ts";
import type { XenDmaMap, XenDmaTag } from "./bus-dma-xen/index.ts";
import type { RxStats, TxStats } from "./counters.ts";
import type { FrontRing } from "./memory.ts";

/** Maps of a queue: one for each slot and one over, as the original's arrays. */
export const RX_MAPS = RX_RING_SLOTS + 1;
export const TX_MAPS = TX_RING_SLOTS + 1;

/** Maps that are nobody's at the moment. pool.ts owns it. */
export class MapPool {
  readonly maps: (XenDmaMap | undefined)[];
  count = 0;

  constructor(size: number) {
    this.maps = new Array<XenDmaMap | undefined>(size).fill(undefined);
  }
}

/** struct netfront_rxq */
export class Rxq {
  readonly id: number;
  readonly name: string;
  readonly stats: RxStats;

  // queues.ts: set by setupRxq, unset by disconnectRxq.
  ring: FrontRing | undefined;
  dmat: XenDmaTag | undefined;
  readonly pool = new MapPool(RX_MAPS);

  // datapath-rx.ts; pool.ts takes maps out for it.
  /** By slot: the buffer that the backend has, and its map. */
  readonly mbufs: (Mbuf | undefined)[] = new Array<Mbuf | undefined>(RX_RING_SLOTS).fill(undefined);
  readonly maps: (XenDmaMap | undefined)[] = new Array<XenDmaMap | undefined>(RX_RING_SLOTS).fill(
    undefined,
  );
  /** Returned by the backend and still in use: the NIC has stopped over it. */
  stuckMbuf: Mbuf | undefined;
  stuckMap: XenDmaMap | undefined;
  /** The first `readyCount` are packets taken from the ring, on their way to the stack. */
  readonly ready: Mbuf[] = [];
  readyCount = 0;
  /** Fewer buffers out than a packet may need: the refill is due again. */
  short = false;
  /** rxeof is under way: what it calls must not enter it. */
  busy = false;
  readonly lro: LroQueue;

  constructor(id: number, name: string, stats: RxStats, input: (m: Mbuf) => void) {
    this.id = id;
    this.name = name;
    this.stats = stats;
    this.lro = new LroQueue(stats, input);
  }
}

/** No packet. */
export const NO_PACKET = 0xffff;

/** struct netfront_txq */
export class Txq implements GateQueue {
  readonly id: number;
  readonly name: string;
  readonly stats: TxStats;

  // queues.ts: set by setupTxq, unset by disconnectTxq.
  ring: FrontRing | undefined;
  dmat: XenDmaTag | undefined;
  /** Event channel of this queue and of the Rx queue of the same number; 0 for none. */
  port = 0;
  readonly pool = new MapPool(TX_MAPS);

  // datapath-tx.ts, tx-pieces.ts.
  /** Request ids are 1 to TX_RING_SLOTS; 0 ends the list of the free ones. */
  readonly nextId = new Uint16Array(TX_MAPS);
  freeId = 0;
  /** Ids in requests that are not answered. */
  idsOut = 0;
  /** Extra info slots that are not answered. */
  extrasOut = 0;
  /** By id: its map while it is in use, the packet it is a piece of, a page for bouncing. */
  readonly maps: (XenDmaMap | undefined)[] = new Array<XenDmaMap | undefined>(TX_MAPS).fill(
    undefined,
  );
  readonly packetOf = new Uint16Array(TX_MAPS).fill(NO_PACKET);
  readonly bounce: (Uint8Array | undefined)[] = new Array<Uint8Array | undefined>(TX_MAPS).fill(
    undefined,
  );
  /** By packet: the chain, its pieces without an answer, its pushed bytes. */
  readonly packets: (Mbuf | undefined)[] = new Array<Mbuf | undefined>(TX_RING_SLOTS).fill(
    undefined,
  );
  readonly pieces = new Uint16Array(TX_RING_SLOTS);
  readonly pushed = new Int32Array(TX_RING_SLOTS);
  /** The first `freePackets` are the numbers of free packets. */
  readonly packetStack = Uint16Array.from({ length: TX_RING_SLOTS }, (_, i) => i);
  freePackets = TX_RING_SLOTS;
  /** Too full for the largest packet. */
  full = false;

  constructor(id: number, name: string, stats: TxStats) {
    this.id = id;
    this.name = name;
    this.stats = stats;
    for (let i = 0; i < TX_RING_SLOTS; i++) this.nextId[i] = i + 1;
    this.freeId = 1;
    this.nextId[TX_RING_SLOTS] = 0;
  }

  /** A queue without a ring keeps nobody waiting: its successor may have room. */
  get hasRoom(): boolean {
    return this.ring === undefined || !this.full;
  }
}
