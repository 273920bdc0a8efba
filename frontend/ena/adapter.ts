/**
 * State of one interface. It lives as long as the driver and outlives any single device.
 * struct ena_adapter of the original (amzn-drivers: kernel/fbsd/ena/ena.h).
 */
import {
  HW_HINTS_NO_TIMEOUT,
  type HwHints,
  type StatelessOffload,
} from "../../shared/ena/features.ts";
import { ResetReason } from "../../shared/ena/registers.ts";
import type { Logger } from "../../shared/log.ts";
import { LogLimit } from "../../shared/log-limit.ts";
import { AsyncLock } from "../async-lock.ts";
import type { DmaTag } from "../bus/tag.ts";
import type { DriverContext } from "../driver.ts";
import { Iff, Ifnet } from "../net/ifnet.ts";
import type { MbufPool } from "../net/mbuf.ts";
import { TransmitGate } from "../net/transmit-gate.ts";
import type { Netmap } from "../netmap/netmap.ts";
import type { Com } from "./control.ts";
import { AdminStats, DevStats, HwStats, type RxStats, type TxStats } from "./counters.ts";
import { pickRing, xmitMbuf } from "./datapath-tx.ts";
import type { EnaNetmap } from "./netmap.ts";
import { kick } from "./notify.ts";
import type { MapCache, QueuePair, TxRing } from "./rings.ts";
import { RssConfig } from "./rss.ts";

export interface EnaOptions {
  /**
   * Use device memory for Tx descriptors where the device offers it. Default false: here a push
   * already sends the bytes with the doorbell, and an LLQ entry takes a longer path.
   */
  readonly llq?: boolean | undefined;
  /** Entries of a ring, limited to the device's maximum. Default 4096 for Rx and 1024 for Tx. */
  readonly rxRingSize?: number | undefined;
  readonly txRingSize?: number | undefined;
  /** Merge received TCP segments. Default true. */
  readonly lro?: boolean | undefined;
  /** The netmap module in which applications open the interface natively. Default: no netmap. */
  readonly netmap?: Netmap | undefined;
}

export const DEFAULT_RING_SIZE = 1024;
/**
 * More than the original's 1024. A descriptor returns after a round trip of the link, which takes
 * longer than on a bus, and a TCP window of 6 MB may arrive in that time.
 */
export const DEFAULT_RX_RING_SIZE = 4096;
export const MIN_RING_SIZE = 256;
export const MIN_MTU = 128;
const DEFAULT_KEEP_ALIVE_TIMEOUT_MS = 6000;
const DEFAULT_TX_TIMEOUT_MS = 5000;
const DEFAULT_TX_THRESHOLD = 128;
const DEFAULT_TX_MONITORED_QUEUES = 4;
/** Log lines of one kind in a second. Further lines are summed up. */
const LINES_A_SECOND = 10;
/** Maximum time (ms) that a tick counts for. Ticks come each second; a stall may delay one. */
const LONGEST_TICK_MS = 1500;

export class Adapter {
  readonly ctx: DriverContext;
  readonly log: Logger;
  /** Limits the log lines that a device can cause at will. */
  readonly lines: LogLimit;
  readonly ifnet: Ifnet;
  readonly lock = new AsyncLock();

  readonly options: EnaOptions;
  /** Increased by each reset, link loss and detach. A step of another generation stops. */
  generation = 0;
  /** The device while it is initialised. */
  com: Com | undefined;

  // ENA_FLAG_*.
  attached = false;
  /** True when the device has been initialised and its events are handled. */
  deviceRunning = false;
  devUp = false;
  linkUp = false;
  rssActive = false;
  triggerReset = false;
  ongoingReset = false;

  resetReason: ResetReason = ResetReason.NORMAL;
  /** True when the link ends on purpose: its end is then no missing keep-alive. */
  suspending = false;
  /** True while a reset task waits for the lock or runs. */
  resetPending = false;
  /** Number of ticks until a failed restore is retried; 0 for none. */
  retryTicks = 0;
  retryBackoff = 1;

  // The device's offer, and the values that the driver requests.
  maxMtu = 0;
  maxTxSgl = 0;
  maxRxSgl = 0;
  maxQueues = 0;
  numQueues = 0;
  requestedTxRingSize = DEFAULT_RING_SIZE;
  requestedRxRingSize = DEFAULT_RING_SIZE;
  offload: StatelessOffload = { tx: 0, rxSupported: 0, rxEnabled: 0 };

  // Watchdogs. Timeouts in ms, HW_HINTS_NO_TIMEOUT for never.
  wdActive = false;
  keepAliveTimeoutMs = DEFAULT_KEEP_ALIVE_TIMEOUT_MS;
  keepAliveTimestamp = 0;
  missingTxTimeoutMs = DEFAULT_TX_TIMEOUT_MS;
  missingTxThreshold = DEFAULT_TX_THRESHOLD;
  missingTxMaxQueues = DEFAULT_TX_MONITORED_QUEUES;
  nextMonitoredQid = 0;
  #watchdogBase = 0;
  #lastTick: number;

  // While up.
  queues: QueuePair[] = [];
  rxPool: MbufPool | undefined;
  txMaps: MapCache | undefined;
  rxTag: DmaTag | undefined;
  readonly gate: TransmitGate<TxRing>;
  /** Watchdog time (ms) of the current transmit batch: one clock read serves all its packets. */
  txStamp = 0;

  netmap: EnaNetmap | undefined;

  readonly devStats = new DevStats();
  readonly hwStats = new HwStats();
  readonly adminStats = new AdminStats();
  /** Counters by queue. They outlive the rings. */
  readonly txStats: TxStats[] = [];
  readonly rxStats: RxStats[] = [];
  readonly rss = new RssConfig();

  constructor(ctx: DriverContext, options: EnaOptions) {
    this.ctx = ctx;
    this.log = ctx.log;
    this.lines = new LogLimit(ctx.log, ctx.clock.now, LINES_A_SECOND);
    this.ifnet = new Ifnet(ctx.name, new Uint8Array(6), ctx.mtu);
    this.options = options;
    this.gate = new TransmitGate<TxRing>({
      ifnet: this.ifnet,
      space: ctx.space,
      // During a reset or without a link a source waits: the return of the device wakes it.
      isOpen: () => this.running && this.linkUp && !this.triggerReset,
      queueOf: (m) => pickRing(this, m),
      stage: (ring, m) => xmitMbuf(this, ring, m),
      kick: () => kick(this.queues),
    });
    this.#lastTick = ctx.clock.now();
  }

  /**
   * Returns the watchdog time in ms, never 0. It does not advance while this process stalls: data
   * that arrived meanwhile is unread, and the device must not be blamed for that.
   */
  clock(): number {
    const since = this.ctx.clock.now() - this.#lastTick;
    return this.#watchdogBase + Math.max(0, Math.min(since, LONGEST_TICK_MS)) + 1;
  }

  /** Advances the watchdog time at a tick. A late tick counts for at most LONGEST_TICK_MS. */
  advanceClock(): void {
    const now = this.ctx.clock.now();
    const since = now - this.#lastTick;
    this.#watchdogBase += Math.max(0, Math.min(since, LONGEST_TICK_MS));
    this.#lastTick = now;
    this.lines.tick();
  }

  get running(): boolean {
    return (this.ifnet.flags & Iff.DRV_RUNNING) !== 0;
  }

  /** ena_trigger_reset: the first reason wins. The next tick starts the reset. */
  requestReset(reason: ResetReason): void {
    if (this.triggerReset) return;
    this.triggerReset = true;
    this.resetReason = reason;
  }

  /** ena_update_hints. A zero leaves a value unchanged. */
  updateHints(hints: HwHints): void {
    const { missingTxCompletionTimeoutMs: tx, driverWatchdogTimeoutMs: watchdog } = hints;
    if (hints.missedTxCompletionCountThresholdToReset !== 0) {
      this.missingTxThreshold = hints.missedTxCompletionCountThresholdToReset;
    }
    if (tx !== 0) this.missingTxTimeoutMs = tx;
    if (watchdog !== 0) this.keepAliveTimeoutMs = watchdog;
    this.com?.applyTimeouts(never(hints.adminCompletionTimeoutMs), never(hints.mmioReadTimeoutMs));
  }
}

/** Replaces "no timeout" by the longest timeout of a hint, so that every wait ends. */
const never = (ms: number): number => (ms === HW_HINTS_NO_TIMEOUT ? HW_HINTS_NO_TIMEOUT - 1 : ms);
