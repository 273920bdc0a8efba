/**
 * The rings of an interface while it is up, with the owner of each request id.
 *
 *   freeIds     [ in use .... | nextToUse .... free ]       a stack: the id freed last is used first
 *   Tx id       free -> owned by a packet, from transmit to its completion -> free
 *   Rx id       free -> owned by a buffer, from refill to its completion   -> free
 *
 * Ids are not ring slots: the device may complete them in any order. After struct ena_ring
 * (amzn-drivers: kernel/fbsd/ena/ena.h).
 */
import { SqDirection } from "../../shared/ena/admin.ts";
import type { QueueId } from "../../shared/net/frame.ts";
import { isPowerOfTwo } from "../../shared/ring/phase.ts";
import { type BusAddresses, busAddresses } from "../../shared/wire/records.ts";
import type { DmaMap } from "../bus/map.ts";
import type { MapRow } from "../bus/map-row.ts";
import type { DmaTag } from "../bus/tag.ts";
import type { LroQueue } from "../net/lro.ts";
import type { Mbuf } from "../net/mbuf.ts";
import { NO_CLUSTER } from "../net/mbuf.ts";
import type { GateQueue } from "../net/transmit-gate.ts";
import type { Kring } from "../netmap/kring.ts";
import type { RxStats, TxStats } from "./counters.ts";
import type { IoCq, IoSq } from "./memory.ts";

/** ENA_PKT_MAX_BUFS: maximum descriptors of a packet, even if the device accepts more. */
export const PKT_MAX_BUFS = 19;
/** Maximum bytes of a receive map, which maps one buffer: a cluster or a netmap buffer. */
export const MAX_RX_BUFFER_BYTES = 16384;

/** Keeps maps for the next ring: they are costly to create, and each reset creates new rings. */
export class MapCache {
  readonly #tag: DmaTag;
  readonly #free: DmaMap[] = [];

  constructor(tag: DmaTag) {
    this.#tag = tag;
  }

  /** Returns `count` maps. Throws BusSpaceExhausted; then the cache keeps all maps. */
  take(count: number): DmaMap[] {
    const taken: DmaMap[] = [];
    try {
      while (taken.length < count) taken.push(this.#free.pop() ?? this.#tag.createMap());
    } catch (error) {
      this.give(taken);
      throw error;
    }
    return taken;
  }

  /** Returns unloaded maps to the cache. */
  give(maps: readonly DmaMap[]): void {
    for (const map of maps) this.#free.push(map);
  }

  destroy(): void {
    for (const map of this.#free) map.destroy();
    this.#free.length = 0;
    this.#tag.destroy();
  }
}

const NO_SLOTS = new Uint8Array(0);

/** Additional state of a Tx ring in netmap mode: the slots of each packet in flight. */
export class TxSlots {
  /** The kring, whose number of slots may differ from the number of descriptors. */
  readonly kring: Kring;
  /** By request id: buffers of its slots (PKT_MAX_BUFS each); their number, 0 if not in flight. */
  readonly bufIdx: Uint32Array;
  readonly used: Uint8Array;
  /** Slots whose buffers the driver owns: their number, and by slot 1 for each of them. */
  slotsOut = 0;
  readonly slotTaken: Uint8Array;
  /** Current slot of the running sync. */
  nmSlot = 0;
  /** True within a packet that can't be sent, until its end is released. */
  dropping: boolean;
  /** Buffers of dropped packets, until the end of the sync. */
  readonly dropped: Uint32Array;
  droppedCount = 0;
  /** True after an invalid completion: no completion is consumed until the reset. */
  stopped = false;

  constructor(ids: number, kring: Kring, dropping: boolean) {
    const { nkrNumSlots: numSlots } = kring;
    this.kring = kring;
    this.dropping = dropping;
    this.bufIdx = new Uint32Array(ids * PKT_MAX_BUFS);
    this.used = new Uint8Array(ids);
    this.dropped = new Uint32Array(numSlots);
    this.slotTaken = new Uint8Array(numSlots);
  }
}

/** The common part of a Tx and an Rx ring. */
class Ring<Stats> {
  readonly direction: SqDirection;
  readonly qid: QueueId;
  readonly size: number;
  readonly sq: IoSq;
  readonly cq: IoCq;
  readonly stats: Stats;

  /** Only the ids from `nextToUse` on are free. */
  readonly freeIds: Uint16Array;
  /** Number of ids in use. */
  nextToUse = 0;

  firstInterrupt = false;

  constructor(direction: SqDirection, qid: QueueId, sq: IoSq, cq: IoCq, stats: Stats) {
    const size = sq.depth;
    if (!isPowerOfTwo(size)) throw new RangeError(`ring of ${size} entries`);
    this.direction = direction;
    this.qid = qid;
    this.size = size;
    this.sq = sq;
    this.cq = cq;
    this.stats = stats;
    this.freeIds = Uint16Array.from({ length: size }, (_, id) => id);
  }

  /** Frees an id. What belongs to it is still in the cache, so it is used next. */
  giveId(id: number): void {
    this.freeIds[--this.nextToUse] = id;
  }
}

export class TxRing extends Ring<TxStats> implements GateQueue {
  // By request id.
  readonly mbufs: (Mbuf | undefined)[];
  readonly maps: readonly DmaMap[];
  /** Number of SQ entries that become free with the completion of the id. */
  readonly entries: Uint16Array;
  /** Bytes pushed to the device for the id, and their number of pieces. */
  readonly pushed: Int32Array;
  readonly pieces: Uint8Array;
  /** Watchdog time (ms) of the transmit; 0 when not in flight. */
  readonly stamps: Float64Array;
  /** 1 when the missing completion has been counted. */
  readonly reported: Uint8Array;

  /** False while the ring is too full for the largest packet. */
  running = true;
  lastCleanup = 0;
  cleanupPending = false;
  /** Present while the ring is in netmap mode. */
  slots: TxSlots | undefined = undefined;

  // Values of the last meta descriptor. The device uses them for the packets that follow.
  metaMss = 0;
  metaL3HdrLen = 0;
  metaL3HdrOffset = 0;
  metaL4HdrWords = 0;

  constructor(qid: QueueId, sq: IoSq, cq: IoCq, maps: readonly DmaMap[], stats: TxStats) {
    super(SqDirection.TX, qid, sq, cq, stats);
    const { size } = this;
    this.maps = maps;
    this.mbufs = new Array<Mbuf | undefined>(size).fill(undefined);
    this.entries = new Uint16Array(size);
    this.pushed = new Int32Array(size);
    this.pieces = new Uint8Array(size);
    this.stamps = new Float64Array(size);
    this.reported = new Uint8Array(size);
  }

  get hasRoom(): boolean {
    return this.running;
  }
}

/** Owner of the buffer of an Rx id: none, prepared and not posted, the device, being consumed. */
export const RxOwner = { NONE: 0, READY: 1, DEVICE: 2, TAKEN: 3 } as const;

export class RxRing extends Ring<RxStats> {
  readonly lro: LroQueue;

  // By request id.
  readonly maps: MapRow;
  /** Number of the id's cluster; NO_CLUSTER for none. */
  readonly clusters: Int32Array;
  /** Netmap buffer index of the id; 0 for none. */
  readonly netmapBufIdx: Uint32Array;
  /** Bus address and bytes of the loaded buffer. */
  readonly address: BusAddresses;
  readonly length: Uint32Array;
  /** RxOwner of the id. */
  readonly owner: Uint8Array;

  /** The current packet, as `rxPkt` read it. */
  readonly pktReqIds = new Uint16Array(PKT_MAX_BUFS);
  readonly pktLengths = new Uint32Array(PKT_MAX_BUFS);
  /** Status word of the packet's last completion, hash, and byte offset in its first buffer. */
  pktStatus = 0;
  pktHash = 0;
  pktOffset = 0;

  // In netmap mode.
  /** Slot whose buffer is posted to the device next. */
  nicCur = 0;
  /** Slots whose buffers belong to ids: their number, and by slot 1 for each of them. */
  nicSlots = 0;
  slotTaken = NO_SLOTS;
  /** Current slot of the running sync. */
  nmSlot = 0;
  /** True after an invalid completion: no completion is consumed until the reset. */
  nmStopped = false;

  noInterruptEventCnt = 0;
  emptyRxQueue = 0;

  constructor(qid: QueueId, sq: IoSq, cq: IoCq, maps: MapRow, stats: RxStats, lro: LroQueue) {
    super(SqDirection.RX, qid, sq, cq, stats);
    const { size } = this;
    this.maps = maps;
    this.lro = lro;
    this.clusters = new Int32Array(size).fill(NO_CLUSTER);
    this.netmapBufIdx = new Uint32Array(size);
    this.address = busAddresses(size);
    this.length = new Uint32Array(size);
    this.owner = new Uint8Array(size);
  }
}

/** A Tx and an Rx ring that share a vector. */
export interface QueuePair {
  readonly tx: TxRing;
  readonly rx: RxRing;
  /** True from an interrupt of the vector until the driver has written its unmask. */
  masked: boolean;
  /**
   * True if a poll found completions while the vector was masked. The device owes an interrupt for
   * them, which it sends at the unmask and nobody needs.
   */
  polled: boolean;
}
