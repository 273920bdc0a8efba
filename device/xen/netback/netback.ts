/**
 * One virtual interface: its queues, its control ring, and its port of the switch.
 *
 *   batch applied -> control ring, each tx queue SLICE packets, round and round, at most TURN
 *                    -> switch flush -> publish
 *   more to do    -> the rest at the next turn of the event loop, so that others get theirs
 *   a frame for us -> deliver ... flush -> publish
 *
 *   connect ──► CONNECTED ── disconnect ──► CLOSED
 *                  '── fatal ──► DISABLED, until it connects     entered once, no work after (XSA-374)
 *
 *   a batch is about to be sent -> publish
 *
 * Publishing may keep transmit responses for the next batch: see kept.ts.
 *
 * The order on the wire is: use counts, bytes, responses, index, events. Netback polls the rings
 * after every batch, with or without an event, because requests may cross with the index that asks
 * for an event.
 */
import type { Timer } from "../../../shared/clock.ts";
import { MAC_BYTES, macHigh, macLow } from "../../../shared/net/ethernet.ts";
import { type Frame, Gso } from "../../../shared/net/frame.ts";
import { type Headers, L3, L4 } from "../../../shared/net/headers.ts";
import { Segmenter } from "../../../shared/net/segment.ts";
import type { VifStatus } from "../../../shared/status/device-status.ts";
import type { LinkState } from "../../../shared/wire/link-state.ts";
import { FaultSeverity } from "../../../shared/wire/protocol.ts";
import { GRANT_PAGE_BYTES } from "../../../shared/xen/grant.ts";
import type { Mirror } from "../../dma/mirror-check.ts";
import { Kept } from "../../kept.ts";
import { DropReason, type Port, type PortOffloads, type SwitchPort } from "../../switch/port.ts";
import { Turn, type TurnOwner } from "../../turn.ts";
import type { VifDevice } from "../xenbus-backend.ts";
import { Attachment } from "./attachment.ts";
import type { NetbackConfig, NetbackContext, Rate } from "./config.ts";
import { MulticastList } from "./multicast.ts";
import { NO_HASH } from "./rx.ts";
import type { TxQueue } from "./tx.ts";

const BROADCAST_HIGH = 0xffff;
const BROADCAST_LOW = -1;
/** Maximum delay (ms) of the timer. When the timer expires, the clock is read again. */
const MAX_TIMER_MS = 60_000;

/** Time (ms) for which transmit responses wait for company, at most. */
const RESPONSE_MS = 30;

const NO_QUEUES: readonly TxQueue[] = [];
const NO_OFFLOADS: PortOffloads = { csum: false, tso4: false, tso6: false };

export class Netback implements Port, TurnOwner, VifDevice {
  readonly name: string;
  readonly kind = "xen";
  readonly context: NetbackContext;
  readonly port: SwitchPort;
  readonly multicast = new MulticastList();
  readonly #turn: Turn;
  readonly kept: Kept;
  readonly faults = new Map<string, number>();
  offloads: PortOffloads = NO_OFFLOADS;
  maxFrameBytes: number;
  readonly #finisher = new Segmenter();
  readonly #group = new Uint8Array(MAC_BYTES);
  /** Rings and channels; undefined while not connected. */
  #attached: Attachment | undefined;
  #config: NetbackConfig | undefined;
  #rate: Rate | undefined;
  #disabled = false;
  #stalled = false;
  #timer: Timer | undefined;
  /** Time (ms of the clock) at which `#timer` expires. */
  #timerAt = Number.POSITIVE_INFINITY;
  #destroyed = false;

  /** Attaches the port to the segment. While not connected, the port drops all frames. */
  constructor(context: NetbackContext) {
    this.context = context;
    this.name = context.host.config.name;
    this.maxFrameBytes = context.maxFrameBytes;
    this.port = context.host.plug(this);
    this.kept = new Kept(context.host);
    this.#turn = new Turn(this, this.port, context.host);
  }

  /** Number of frames that wait for receive requests. */
  get rxQueued(): number {
    let frames = 0;
    for (const queue of this.#attached?.rx ?? []) frames += queue.queued;
    return frames;
  }

  get tx(): readonly TxQueue[] {
    return this.#attached?.tx ?? NO_QUEUES;
  }

  get connected(): boolean {
    return this.#attached !== undefined;
  }

  /**
   * Maps the rings, binds the ports and starts work. Returns undefined, or, after undoing
   * everything, a sentence that names the key with an unusable value. Throws when called twice.
   */
  connect(config: NetbackConfig): string | undefined {
    if (this.connected || this.#destroyed) throw new Error(`${this.name}: connect twice`);
    const attached = Attachment.open(this, config);
    this.context.grants.flushUses();
    if (typeof attached === "string") return attached;
    this.#disabled = false;
    this.#attached = attached;
    this.#config = config;
    this.multicast.clear();
    const v4 = !config.noCsumOffload;
    const v6 = config.ipv6CsumOffload;
    this.offloads = {
      csum: v4 || v6,
      tso4: v4 && config.sg && config.gsoTcpv4,
      tso6: v6 && config.sg && config.gsoTcpv6,
    };
    const { maxFrameBytes } = this.context;
    this.maxFrameBytes = config.sg ? maxFrameBytes : Math.min(maxFrameBytes, GRANT_PAGE_BYTES);
    for (const queue of attached.tx) queue.credit.setRate(this.#rate);
    // The guest may have posted requests before the rings were mapped.
    this.wake();
    this.#turn.roomAgain();
    return undefined;
  }

  /** Releases all pins, mappings and channels. Drops waiting packets. May be called repeatedly. */
  disconnect(): void {
    const attached = this.#attached;
    if (attached === undefined) return;
    this.#attached = undefined;
    this.#config = undefined;
    this.#stalled = false;
    this.offloads = NO_OFFLOADS;
    this.maxFrameBytes = this.context.maxFrameBytes;
    this.context.host.clock.clear(this.#timer);
    this.#timerAt = Number.POSITIVE_INFINITY;
    if (!this.#disabled && attached.publish()) this.context.host.scheduleFlush();
    attached.close();
    // Drops pushed bytes of packets that will not be sent, and pending reads.
    this.context.host.memory.abandon();
    this.context.grants.flushUses();
    this.#turn.roomAgain();
  }

  failed(code: string, text: string): void {
    this.context.host.fault(FaultSeverity.DEVICE, code, text);
  }

  /** Disconnects, and detaches the port from the switch. */
  destroy(): void {
    if (this.#destroyed) return;
    this.disconnect();
    this.#destroyed = true;
    this.#turn.close();
  }

  // Services for the queues.

  /** Counts a rule that the frontend broke. It cost one packet or one request. */
  note(code: string, text: string): void {
    this.faults.set(code, (this.faults.get(code) ?? 0) + 1);
    this.context.host.fault(FaultSeverity.NOTE, code, text);
  }

  /** Disables the interface. Every queue is closed when this returns. */
  fatal(code: string, text: string): void {
    if (!this.connected) return;
    this.faults.set(code, (this.faults.get(code) ?? 0) + 1);
    this.#disabled = true;
    this.disconnect();
    this.context.fatal(code, text);
  }

  /** Called when bytes have come for which a queue waits. */
  wake(): void {
    this.#turn.schedule();
  }

  /** True while another port holds a frame for this interface. */
  get held(): boolean {
    return this.#turn.holding;
  }

  // Methods of Port, for the switch.

  deliver(frame: Frame): DropReason | undefined {
    const attached = this.#attached;
    if (attached === undefined) return DropReason.PORT_DOWN;
    if (this.#stalled) return DropReason.STALLED;
    if (frame.gso === Gso.NONE && frame.length > this.maxFrameBytes) return DropReason.TOO_BIG;
    if (this.#config!.multicastControl && !this.#wants(frame)) return DropReason.MULTICAST_FILTER;
    const { hashing, rx } = attached;
    let out = frame;
    let hash = 0;
    let hashType: number = NO_HASH;
    let queue = rx[0]!;
    if (rx.length > 1 || hashing.active || frame.needsCsum) {
      const h = frame.headers();
      if (rx.length > 1 || hashing.active) {
        queue = rx[hashing.select(h)]!;
        hash = hashing.hash;
        hashType = hashing.type;
      }
      if (frame.needsCsum && !this.#takesBlank(h)) {
        const finished = this.#finisher.finish(frame);
        if (typeof finished === "string") return DropReason.MALFORMED_OFFLOAD;
        out = finished;
      }
    }
    frame.queue = queue.index;
    return queue.deliver(out, hash, hashType);
  }

  ready(length: number, frames = 1): boolean {
    const attached = this.#attached;
    // A port that is down drops the frame. To hold it would stop its sender for good.
    if (attached === undefined || this.#stalled) return true;
    const extras = (length > this.maxFrameBytes ? 1 : 0) + (attached.hashing.active ? 1 : 0);
    let room = this.context.host.askForRoom();
    // The queue is not known yet, so each queue needs room: a held frame must not be dropped.
    for (let i = 0; room && i < attached.rx.length; i++) {
      room = attached.rx[i]!.ready(length, frames, extras);
    }
    if (!room) {
      this.#turn.hold();
      // A queue may have asked for an event, and no flush follows a refusal.
      this.context.host.scheduleFlush();
    }
    return room;
  }

  /**
   * Ends a burst: sends use counts, then staged responses, then events. Responses that no sender waits
   * for are kept for the next message to the guest.
   */
  flush(now = false): void {
    const attached = this.#attached;
    if (attached === undefined) return;
    const { grants, host } = this.context;
    const { isUrgent } = attached;
    if (isUrgent && now) {
      host.flush();
      return;
    }
    grants.flushUses();
    if (isUrgent) {
      attached.publish();
      host.scheduleFlush();
    } else if (attached.keepsResponses) host.scheduleLazy(RESPONSE_MS);
  }

  /** Called before a batch is sent: it takes the kept responses along. */
  beforeFlush(): void {
    this.context.grants.flushUses();
    this.#attached?.publish();
  }

  /** Returns whether the guest accepts the destination address of this frame. */
  #wants(frame: Frame): boolean {
    const group = this.#group;
    if ((frame.byteAt(0) & 1) === 0) return true;
    frame.copyTo(group, 0, 0, MAC_BYTES);
    const high = macHigh(group, 0);
    const low = macLow(group, 0);
    return (high === BROADCAST_HIGH && low === BROADCAST_LOW) || this.multicast.has(high, low);
  }

  /** Returns whether the guest accepts frames with these headers and a blank checksum. */
  #takesBlank(h: Headers): boolean {
    if ((h.l4 !== L4.TCP && h.l4 !== L4.UDP) || h.l4HeaderLength === 0) return false;
    const { noCsumOffload, ipv6CsumOffload } = this.#config!;
    return h.l3 === L3.IPV4 ? !noCsumOffload : ipv6CsumOffload;
  }

  // Work.

  /** Called after a batch of the guest was applied. Polls every ring. */
  batchEnd(): void {
    // An interface without rings sends nothing, so bytes pushed to it are dropped.
    if (!this.connected) this.context.host.memory.abandon();
    this.#turn.run();
  }

  /** Called when the link has room again. */
  writableAgain(): void {
    this.#turn.roomAgain();
    this.#turn.run();
  }

  /** Called when a window is removed. An honest frontend disconnects first. */
  windowRemoved(address: number, length: number): void {
    if (this.#attached?.touches(address, length)) {
      this.fatal("RING_WINDOW_GONE", `the window at 0x${address.toString(16)} held a mapped ring`);
    }
  }

  /** Sets the transmit credit of each queue. Undefined means no limit. */
  setRate(rate: Rate | undefined): void {
    this.#rate = rate;
    for (const queue of this.#attached?.tx ?? []) queue.credit.setRate(rate);
    this.wake();
  }

  /** Checks for stalls, old frames and credit. Call it at least about once a second. */
  tick(nowMs: number): void {
    for (const queue of this.#attached?.rx ?? []) queue.tick(nowMs);
    this.#judge();
    // Senders that hold frames for a guest that accepts nothing must not wait forever.
    this.#turn.roomAgain();
    this.#turn.run();
  }

  beginTurn(): void {
    this.#pollRx();
    this.#attached?.control?.run();
  }

  endTurn(): void {
    this.flush();
    this.#attached?.eoi();
    this.#armTimer();
  }

  /** Serves waiting frames if receive requests or room on the link allow it. */
  #pollRx(): void {
    if (!this.context.host.askForRoom()) return;
    let room = false;
    // A poll that finds a broken ring closes all rings and clears `#attached`.
    for (let i = 0; i < (this.#attached?.rx.length ?? 0); i++) {
      if (this.#attached!.rx[i]!.poll()) room = true;
    }
    this.#judge();
    if (room) this.#turn.roomAgain();
  }

  /** One stalled queue turns the carrier off: frames are dropped before they are copied. */
  #judge(): void {
    const attached = this.#attached;
    let stalled = false;
    for (let i = 0; i < (attached?.rx.length ?? 0); i++) {
      if (attached!.rx[i]!.stalled) stalled = true;
    }
    this.#stalled = stalled;
  }

  /** Arms a timer for the next Tx credit. Credit refills with time, and no event announces it. */
  #armTimer(): void {
    if (!this.connected) return;
    let due = Number.POSITIVE_INFINITY;
    const { tx } = this.#attached!;
    for (let i = 0; i < tx.length; i++) {
      if (tx[i]!.starved) due = Math.min(due, tx[i]!.credit.due);
    }
    if (due === Number.POSITIVE_INFINITY) return;
    const { clock } = this.context.host;
    const now = clock.now();
    const at = Math.min(Math.max(now + 1, due), now + MAX_TIMER_MS);
    // An armed timer stays, unless another queue or a new rate makes credit due earlier.
    if (at >= this.#timerAt) return;
    clock.clear(this.#timer);
    this.#timerAt = at;
    this.#timer = clock.setTimeout(
      () => {
        this.#timerAt = Number.POSITIVE_INFINITY;
        this.#turn.run();
      },
      Math.ceil(at - now),
    );
    this.#timer.unref();
  }

  /** Returns the page of every ring, for a check of both copies. */
  sharedRings(): readonly Mirror[] {
    return this.#attached?.rings.map((ring) => ring.mirror()) ?? [];
  }

  tellState(state: LinkState): void {
    this.#attached?.tellState(state);
  }

  snapshot(): VifStatus {
    return {
      connected: this.connected,
      disabled: this.#disabled,
      stalled: this.#stalled,
      offloads: { ...this.offloads },
      features: this.#config === undefined ? {} : featuresOf(this.#config),
      multicastGroups: this.multicast.length,
      ...(this.#rate === undefined ? {} : { rate: { ...this.#rate } }),
      faults: Object.fromEntries(this.faults),
      ...(this.#attached?.snapshot() ?? {}),
    };
  }
}

/** Returns the features that the frontend announced when it connected. */
function featuresOf(config: NetbackConfig): VifStatus["features"] {
  const { sg, gsoTcpv4, gsoTcpv6, noCsumOffload, ipv6CsumOffload } = config;
  const { rxNotify, multicastControl } = config;
  const csumOffload = !noCsumOffload;
  return { sg, gsoTcpv4, gsoTcpv6, csumOffload, ipv6CsumOffload, rxNotify, multicastControl };
}
