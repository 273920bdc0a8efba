/**
 * The queues. One thread runs them, each step to its end. So ownership replaces the original's
 * locks: the data path of a queue writes the fields of that queue, and no field of NetfrontInfo or
 * of another queue.
 *
 *   original            here
 *   rxq.lock            datapath-rx.ts, from its entry to its return; it passes packets up only
 *                       after the ring is consistent again
 *   txq.lock            datapath-tx.ts with tx-pieces.ts, likewise; mbufs are freed only after the
 *                       ring is consistent
 *   sc_lock             NetfrontInfo.lock: steps that await. No data path acquires it
 *   all of them         a step that does not await sees every queue at rest
 *
 * Two queues share no field: each has its own tag, maps and counters.
 */
import type { QueueId } from "../../shared/net/frame.ts";
import { RX_RING_SLOTS, TX_RING_SLOTS } from "../../shared/xen/netif.ts";
import type { Ifnet } from "../net/ifnet.ts";
import { LroQueue } from "../net/lro.ts";
import type { Mbuf } from "../net/mbuf.ts";
import type { GateQueue } from "../net/transmit-gate.ts";
import type { XenDmaMap, XenDmaTag } from "./bus-dma-xen/index.ts";
import type { RxStats, TxStats } from "./counters.ts";
import type { FrontRing } from "./memory.ts";

/** Maps of a queue: one for each slot and one more, as in the original's arrays. */
export const RX_MAPS = RX_RING_SLOTS + 1;
export const TX_MAPS = TX_RING_SLOTS + 1;

const empty = <T>(size: number): (T | undefined)[] =>
  new Array<T | undefined>(size).fill(undefined);

/** The maps of a queue that are not in use: a stack. pool.ts owns the pool. */
export class MapPool {
  readonly maps: (XenDmaMap | undefined)[];
  count = 0;
  /** By the map's index in its tag: its place on the stack, or -1 while it is in use. */
  readonly places: Int16Array;
  /** Index behind the last run of maps that was found. */
  cursor = 0;

  constructor(size: number) {
    this.maps = empty(size);
    this.places = new Int16Array(size).fill(-1);
  }
}

/** The parts that both queues of a pair have. */
export class Queue<Stats> {
  readonly id: QueueId;
  readonly name: string;
  readonly stats: Stats;

  // Set by setUp, unset by tearDown.
  ring: FrontRing | undefined;
  dmat: XenDmaTag | undefined;
  readonly pool: MapPool;

  constructor(id: QueueId, name: string, stats: Stats, maps: number) {
    this.id = id;
    this.name = name;
    this.stats = stats;
    this.pool = new MapPool(maps);
  }
}

/** struct netfront_rxq */
export class Rxq extends Queue<RxStats> {
  // Written by the data path only.
  /** By slot: the buffer that the backend owns, and its map. */
  readonly mbufs: (Mbuf | undefined)[] = empty(RX_RING_SLOTS);
  readonly maps: (XenDmaMap | undefined)[] = empty(RX_RING_SLOTS);
  /** By the index of a map in the pool: the buffer that is to be posted again under its grant. */
  readonly granted: (Mbuf | undefined)[] = empty(RX_MAPS);
  /** A buffer that the backend returned and still uses. The NIC has stopped because of it. */
  stuckMbuf: Mbuf | undefined;
  stuckMap: XenDmaMap | undefined;
  /** The first `readyCount` entries are packets from the ring that the stack will receive. */
  readonly ready: Mbuf[] = [];
  readyCount = 0;
  /** True while the backend owns fewer buffers than a packet may need: the refill is due again. */
  short = false;
  /** True while packets go up: the code that receives them must not enter rxeof again. */
  busy = false;
  readonly lro: LroQueue;

  constructor(id: QueueId, name: string, stats: RxStats, ifnet: Ifnet) {
    super(id, name, stats, RX_MAPS);
    this.lro = new LroQueue(stats, ifnet, id);
  }
}

/** Value of `packetOf` for an id without a packet. */
export const NO_PACKET = 0xffff;

/** struct netfront_txq */
export class Txq extends Queue<TxStats> implements GateQueue {
  /** Event channel of this queue and of the Rx queue with the same number; 0 for none. */
  port = 0;

  // Written by the data path only.
  /** List of the free request ids, which are 1 to TX_RING_SLOTS. 0 ends the list. */
  readonly nextId = new Uint16Array(TX_MAPS);
  freeId = 0;
  /** Number of ids in requests without a response. */
  idsOut = 0;
  /** Number of extra info slots without a response. */
  extrasOut = 0;
  /** By id: the map while the id is in use, the packet that its piece is of, and a bounce page. */
  readonly maps: (XenDmaMap | undefined)[] = empty(TX_MAPS);
  readonly packetOf = new Uint16Array(TX_MAPS).fill(NO_PACKET);
  readonly bounce: (Uint8Array | undefined)[] = empty(TX_MAPS);
  /** By packet: the chain, the number of pieces without a response, the pushed bytes. */
  readonly packets: (Mbuf | undefined)[] = empty(TX_RING_SLOTS);
  readonly pieces = new Uint16Array(TX_RING_SLOTS);
  readonly pushed = new Int32Array(TX_RING_SLOTS);
  /** The first `freePackets` entries are the numbers of free packets. */
  readonly packetStack = Uint16Array.from({ length: TX_RING_SLOTS }, (_, i) => i);
  freePackets = TX_RING_SLOTS;
  /** True while the ring is too full for the largest packet. */
  full = false;

  constructor(id: QueueId, name: string, stats: TxStats) {
    super(id, name, stats, TX_MAPS);
    for (let i = 0; i < TX_RING_SLOTS; i++) this.nextId[i] = i + 1;
    this.freeId = 1;
    this.nextId[TX_RING_SLOTS] = 0;
  }

  /** True also for a queue without a ring: no source waits for it, its successor may have room. */
  get hasRoom(): boolean {
    return this.ring === undefined || !this.full;
  }
}
