/**
 * Creates and destroys the rings of an interface, here and in the device; decides number and size.
 * After ena_calc_max_io_queue_num, ena_calc_io_queue_size, create_queues_with_size_backoff and
 * ena_create_io_queues (amzn-drivers: kernel/fbsd/ena/ena.c).
 */
import { RX_CDESC_SIZE, TX_CDESC_SIZE } from "../../shared/ena/io.ts";
import { type QueueId, queueId } from "../../shared/net/frame.ts";
import { slice } from "../../shared/slices.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { Errno } from "../bus/errno.ts";
import { LroQueue } from "../net/lro.ts";
import { MbufPool } from "../net/mbuf.ts";
import { type Adapter, DEFAULT_RING_SIZE, DEFAULT_RX_RING_SIZE, MIN_RING_SIZE } from "./adapter.ts";
import type { Com, DeviceFeatures } from "./control.ts";
import { RxStats, TxStats } from "./counters.ts";
import { freeRxBufs } from "./datapath-rx.ts";
import { freeTxBufs } from "./datapath-tx.ts";
import { DeviceError, errnoOf } from "./device-error.ts";
import { IoCq, IoSq } from "./memory.ts";
import { resetRxRing } from "./netmap-rx-slots.ts";
import { resetTxRing } from "./netmap-tx-slots.ts";
import { ioVector } from "./notify.ts";
import { MAX_RX_BUFFER_BYTES, PKT_MAX_BUFS, type QueuePair, RxRing, TxRing } from "./rings.ts";

/** ENA_MAX_NUM_IO_QUEUES */
const MAX_QUEUES = 128;
/** Bytes of a buffer in addition to the MTU: Ethernet header, one VLAN tag, FCS. */
const FRAME_OVERHEAD = 22;
const SMALL_CLUSTER = 2048;
const PAGE_CLUSTER = 4096;
/** Mbufs that the stack may hold in addition to those in rings. */
const SPARE_MBUFS = 1024;

/** Sets number and sizes of queues by the device's offer. Returns false if no offer is usable. */
export function sizeQueues(adapter: Adapter, com: Com, f: DeviceFeatures): boolean {
  const { llq } = com;
  const { options } = adapter;
  const { queues } = f;
  const offered = llq === undefined ? undefined : f.llq;
  const maxTxSqNum = offered?.maxLlqNum ?? queues.maxTxSqNum;
  const most = [maxTxSqNum, queues.maxTxCqNum, queues.maxRxSqNum, queues.maxRxCqNum];
  adapter.maxQueues = Math.min(MAX_QUEUES, ...most);
  adapter.numQueues = Math.min(adapter.ctx.queues, adapter.maxQueues);

  let maxTx = Math.min(queues.maxTxCqDepth, offered?.maxLlqDepth ?? queues.maxTxSqDepth);
  // Wide entries need twice the memory. So half as many fit, unless the device gives a number.
  if (llq?.wide) maxTx = offered?.maxWideLlqDepth || Math.floor(maxTx / 2);
  const maxRx = Math.min(queues.maxRxSqDepth, queues.maxRxCqDepth);
  adapter.requestedTxRingSize = ringSize(options.txRingSize ?? DEFAULT_RING_SIZE, maxTx);
  adapter.requestedRxRingSize = ringSize(options.rxRingSize ?? DEFAULT_RX_RING_SIZE, maxRx);
  adapter.maxTxSgl = Math.min(PKT_MAX_BUFS, queues.maxPerPacketTxDescs);
  adapter.maxRxSgl = Math.min(PKT_MAX_BUFS, queues.maxPerPacketRxDescs);
  const enough = adapter.requestedTxRingSize > 0 && adapter.requestedRxRingSize > 0;
  // A packet needs at least three descriptors: meta, header and one piece.
  return enough && adapter.numQueues > 0 && adapter.maxTxSgl >= 3 && adapter.maxRxSgl >= 1;
}

/** Returns a power of two up to `max`, MIN_RING_SIZE or more if `max` allows; 0 for no ring. */
function ringSize(wanted: number, max: number): number {
  const size = Math.min(Math.max(wanted, MIN_RING_SIZE), max, 1 << 15);
  return size < 1 ? 0 : 1 << (31 - Math.clz32(size));
}

/**
 * Sets up rings and creates them in the device. Halves the larger kind when memory is short here or
 * in the device (the original only for its own memory). Rejects and leaves no rings when a smaller
 * size does not help.
 */
export async function createQueuesWithBackoff(adapter: Adapter, com: Com): Promise<void> {
  let tx = adapter.requestedTxRingSize;
  let rx = adapter.requestedRxRingSize;
  for (;;) {
    const created = createQueues(adapter, com, tx, rx);
    if ((await errnoOf(created)) !== Errno.ENOMEM) return created;
    adapter.log.warn({ tx, rx }, "not enough memory for queues of these sizes");
    const halfTx = rx <= tx ? tx / 2 : tx;
    const halfRx = rx >= tx ? rx / 2 : rx;
    if (halfTx < MIN_RING_SIZE || halfRx < MIN_RING_SIZE) return created;
    tx = halfTx;
    rx = halfRx;
  }
}

async function createQueues(
  adapter: Adapter,
  com: Com,
  txSize: number,
  rxSize: number,
): Promise<void> {
  const created: (TxRing | RxRing)[] = [];
  try {
    await setupRings(adapter, com, txSize, rxSize);
    for (const ring of ringsOf(adapter)) {
      await createOne(com, ring);
      created.push(ring);
    }
  } catch (error) {
    await destroyQueues(com, created.reverse());
    com.check();
    teardownRings(adapter);
    throw error;
  }
}

async function createOne(com: Com, { direction, qid, sq, cq }: TxRing | RxRing): Promise<void> {
  const errno = await errnoOf(com.createQueue(direction, sq, cq, ioVector(qid)));
  com.check();
  if (errno === 0) return;
  com.log.error({ direction, queue: qid, errno }, "queue was not created");
  throw new DeviceError(errno);
}

/** First all tx rings, then all rx rings, as in every known driver. */
export const ringsOf = ({ queues }: Adapter): (TxRing | RxRing)[] => [
  ...queues.map(({ tx }) => tx),
  ...queues.map(({ rx }) => rx),
];

/** ena_destroy_all_io_queues: destroys each SQ before its CQ. */
export async function destroyQueues(com: Com, rings: readonly (TxRing | RxRing)[]): Promise<void> {
  for (const { direction, sq, cq } of rings) await com.destroyQueue(direction, sq.idx, cq.idx);
}

/** Sets up the rings of every queue. Other work has its turn between two queues. */
async function setupRings(
  adapter: Adapter,
  com: Com,
  txSize: number,
  rxSize: number,
): Promise<void> {
  const { space, pci, name } = adapter.ctx;
  const { txMaps, rxTag } = adapter;
  if (adapter.queues.length > 0) throw new Error("ena: rings are set up already");
  if (txMaps === undefined || rxTag === undefined) throw new Error("ena: rings before tags");
  setupPool(adapter, rxSize);
  for (let i = 0; i < adapter.numQueues; i++) {
    const qid = queueId(i);
    adapter.txStats[qid] ??= new TxStats();
    adapter.rxStats[qid] ??= new RxStats();
    const txStats = adapter.txStats[qid]!;
    const rxStats = adapter.rxStats[qid]!;
    const undo: (() => void)[] = [];
    try {
      const own = <T extends { free(): void }>(part: T): T => {
        undo.push(() => part.free());
        return part;
      };
      const at = `${name} queue ${qid}`;
      const txSq = own(
        new IoSq(space, pci, `${at} tx sq`, txSize, RecordType.ENA_TX_DESC, com.llq),
      );
      const txCq = own(new IoCq(space, `${at} tx cq`, txSize, TX_CDESC_SIZE));
      const rxSq = own(
        new IoSq(space, pci, `${at} rx sq`, rxSize, RecordType.ENA_RX_DESC, undefined),
      );
      const rxCq = own(new IoCq(space, `${at} rx cq`, rxSize, RX_CDESC_SIZE));
      const tMaps = txMaps.take(txSize);
      undo.push(() => txMaps.give(tMaps));
      const rMaps = rxTag.createRow(rxSize, rxBufferBytes(adapter, qid));
      undo.push(() => rMaps.destroy());
      const lro = new LroQueue(rxStats, adapter.ifnet, qid);
      const tx = new TxRing(qid, txSq, txCq, tMaps, txStats);
      const rx = new RxRing(qid, rxSq, rxCq, rMaps, rxStats, lro);
      adapter.queues.push({ tx, rx, masked: false, polled: false });
    } catch (error) {
      for (const step of undo.reverse()) step();
      throw error;
    }
    await slice();
    com.check();
  }
  const { netmap } = adapter;
  for (const { tx, rx } of adapter.queues) {
    if (netmap?.hasTxRing(tx.qid)) resetTxRing(netmap, tx);
    if (netmap?.hasRxRing(rx.qid)) resetRxRing(netmap, rx);
  }
}

/** Creates an Rx pool if the old one does not fit. Mbufs of the stack return to their own pool. */
function setupPool(adapter: Adapter, rxSize: number): void {
  const clusterBytes = clusterFor(adapter.ifnet.mtu);
  const limit = adapter.numQueues * rxSize * 2 + SPARE_MBUFS;
  const pool = adapter.rxPool;
  if (pool !== undefined && pool.clusterBytes === clusterBytes && pool.limit >= limit) return;
  adapter.rxPool = new MbufPool(clusterBytes, limit);
}

/** Returns the bytes of an Rx buffer: a frame of the usual MTU, or a page for larger ones. */
export const clusterFor = (mtu: number): number =>
  mtu + FRAME_OVERHEAD <= SMALL_CLUSTER ? SMALL_CLUSTER : PAGE_CLUSTER;

/** Returns the bytes of a queue's Rx buffers: netmap buffers, or clusters of the pool. */
function rxBufferBytes({ netmap, rxPool }: Adapter, qid: QueueId): number {
  if (netmap?.hasRxRing(qid) !== true) return rxPool!.clusterBytes;
  return Math.min(netmap.na.memory.bufSize, MAX_RX_BUFFER_BYTES);
}

/** Counter for packets whose completion will not come. */
export type DropCounter = "dropped_reset" | "dropped_link" | "dropped_down";

/** Frees every buffer and every ring. The device no longer uses them, or is out of reach. */
export function teardownRings(adapter: Adapter, drops: DropCounter = "dropped_down"): void {
  const queues = adapter.queues;
  adapter.queues = [];
  adapter.gate.forgetQueues();
  for (const pair of queues) freePair(adapter, pair, drops);
  if (adapter.gate.pushedBytes !== 0 || adapter.gate.pushes !== 0) {
    throw new Error(`ena: ${adapter.gate.pushedBytes} pushed bytes belong to no packet`);
  }
}

function freePair(adapter: Adapter, { tx, rx }: QueuePair, drops: DropCounter): void {
  const dropped = freeTxBufs(adapter, tx);
  tx.stats[drops] += dropped;
  adapter.ifnet.counters.oqdrops += dropped;
  freeRxBufs(adapter, rx);
  tx.sq.free();
  tx.cq.free();
  rx.sq.free();
  rx.cq.free();
  adapter.txMaps?.give(tx.maps);
  rx.maps.destroy();
}
