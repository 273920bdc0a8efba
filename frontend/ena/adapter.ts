/**
 * One interface: everything that lives as long as the driver is attached, whatever device is at
 * the other end. struct ena_adapter of the original (amzn-drivers: kernel/fbsd/ena/ena.h).
 */
import {
  HW_HINTS_NO_TIMEOUT,
  type HwHints,
  type StatelessOffload,
} from "../../shared/ena/features.ts";
import { ResetReason } from "../../shared/ena/registers.ts";
import type { Logger } from "../../shared/log.ts";
import { AsyncLock } from "../async-lock.ts";
import type { DriverContext } from "../driver.ts";
import { Ifcap, Iff, Ifnet } from "../net/ifnet.ts";
import type { MbufPool } from "../net/mbuf.ts";
import { TransmitGate } from "../net/transmit-gate.ts";
import type { Netmap } from "../netmap/netmap.ts";
import type { Com } from "./control.ts";
import { DevStats, HwStats, newAdminStats, type RxStats, type TxStats } from "./counters.ts";
import { pickRing, xmitMbuf } from "./datapath-tx.ts";
import type { EnaNetmap } from "./netmap-mode.ts";
import { kick } from "./notify.ts";
import type { MapCache, QueuePair, TxRing } from "./rings.ts";
import { newRssConfig } from "./rss.ts";

export interface EnaOptions {
  /**
   * Use device memory for Tx descriptors where the device offers it. Default false: on a wire a
   * push already brings the bytes with the doorbell, and an LLQ entry is the longer way.
   */
  readonly llq?: boolean | undefined;
  /** Entries; clamped to what the device takes. Default 4096 and 1024. */
  readonly rxRingSize?: number | undefined;
  readonly txRingSize?: number | undefined;
  /** Merge received TCP segments. Default true. */
  readonly lro?: boolean | undefined;
  /** Most bytes pushed and not yet completed, beside the limit of the device. Default: none. */
  readonly pushBytes?: number | undefined;
  /** Where the interface can be opened by netmap, natively. Without it the driver has no such support. */
  readonly netmap?: Netmap | undefined;
}

export const DEFAULT_RING_SIZE = 1024;
/**
 * More than the original's 1024: a descriptor comes back after a round trip of the link, not of a
 * bus, and a TCP window of 6 MB may arrive before that.
 */
const DEFAULT_RX_RING_SIZE = 4096;
export const MIN_RING_SIZE = 256;
export const MIN_MTU = 128;
const DEFAULT_KEEP_ALIVE_TIMEOUT_MS = 6000;
const DEFAULT_TX_TIMEOUT_MS = 5000;
const DEFAULT_TX_THRESHOLD = 128;
const DEFAULT_TX_MONITORED_QUEUES = 4;
/** Lines between two ticks about what the device tells unasked: a flood of events is no flood of logs. */
const LOGS_PER_TICK = 10;
/** Ticks come each second. One that is later by a stall of our own process counts as this much. */
const LONGEST_TICK_MS = 1500;

export class Adapter {
  readonly ctx: DriverContext;
  readonly log: Logger;
  readonly ifnet: Ifnet;
  readonly lock = new AsyncLock();

  // Wishes, from options.
  readonly wantLlq: boolean;
  /** Ifcap bits that are off from the start. */
  readonly wantOff: number;
  readonly wantRxRingSize: number;
  readonly wantTxRingSize: number;

  /** Raised by each reset, link loss and detach; a step that resumes and finds another one stops. */
  generation = 0;
  /** The device while it is initialised. */
  com: Com | undefined;

  // ENA_FLAG_*.
  attached = false;
  /** The device has been initialised and its events are handled. */
  deviceRunning = false;
  devUp = false;
  linkUp = false;
  rssActive = false;
  triggerReset = false;
  ongoingReset = false;

  resetReason: ResetReason = ResetReason.NORMAL;
  /** The link is about to end on purpose: its end is no missing keep-alive. */
  suspending = false;
  /** A reset task waits for the lock or runs. */
  resetPending = false;
  /** A restore failed for a reason that may pass: ticks until the next attempt, 0 for none. */
  retryTicks = 0;
  retryBackoff = 1;
  #logsLeft = LOGS_PER_TICK;

  // What the device offers and was asked for.
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
  rxMaps: MapCache | undefined;
  readonly gate: TransmitGate<TxRing>;
  /** Watchdog time of the transmit batch at hand: one look at the clock serves all its packets. */
  txStamp = 0;

  netmap: EnaNetmap | undefined;

  readonly devStats = new DevStats();
  readonly hwStats = new HwStats();
  readonly adminStats = newAdminStats();
  /** By queue; they outlive the rings. */
  readonly txStats: TxStats[] = [];
  readonly rxStats: RxStats[] = [];
  readonly rss = newRssConfig();

  constructor(ctx: DriverContext, options: EnaOptions) {
    this.ctx = ctx;
    this.log = ctx.log;
    this.ifnet = new Ifnet(ctx.name, new Uint8Array(6), ctx.mtu);
    this.wantLlq = options.llq ?? false;
    this.wantOff = options.lro === false ? Ifcap.LRO : 0;
    this.wantRxRingSize = options.rxRingSize ?? DEFAULT_RX_RING_SIZE;
    this.wantTxRingSize = options.txRingSize ?? DEFAULT_RING_SIZE;
    this.gate = new TransmitGate<TxRing>({
      ifnet: this.ifnet,
      space: ctx.space,
      pushBytes: options.pushBytes,
      // Resetting, or the link is gone: it comes back, and the source is told then.
      isOpen: () => this.running && this.linkUp && !this.triggerReset,
      queueOf: (m) => pickRing(this, m),
      stage: (ring, m) => xmitMbuf(this, ring, m),
      kick: () => kick(this.queues),
    });
    this.#lastTick = ctx.clock.now();
  }

  /**
   * Watchdog time in ms, never 0. It stands still while this process does: what arrived meanwhile
   * lies unread, and a device must not be blamed for it.
   */
  clock(): number {
    const since = this.ctx.clock.now() - this.#lastTick;
    return this.#watchdogBase + Math.max(0, Math.min(since, LONGEST_TICK_MS)) + 1;
  }

  /** One tick: a late one counts for little more than one. */
  advanceClock(): void {
    const now = this.ctx.clock.now();
    const since = now - this.#lastTick;
    this.#watchdogBase += Math.max(0, Math.min(since, LONGEST_TICK_MS));
    this.#lastTick = now;
    this.#logsLeft = LOGS_PER_TICK;
  }

  /** Whether one more line about an event is in order. */
  mayLog(): boolean {
    return this.#logsLeft-- > 0;
  }

  get running(): boolean {
    return (this.ifnet.flags & Iff.DRV_RUNNING) !== 0;
  }

  /** ena_trigger_reset: the first reason wins; the next tick acts on it. */
  requestReset(reason: ResetReason): void {
    if (this.triggerReset) return;
    this.triggerReset = true;
    this.resetReason = reason;
  }

  /** ena_update_hints. Zero means: as before. */
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

/** A wait that never ends would never be judged: the longest that a hint can say instead. */
const never = (ms: number): number => (ms === HW_HINTS_NO_TIMEOUT ? HW_HINTS_NO_TIMEOUT - 1 : ms);
