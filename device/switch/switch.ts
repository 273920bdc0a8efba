/**
 * A learning switch: one Ethernet segment.
 *
 *   port.input(frame) ──► checks ──► learn source ──► known? one port : all others
 *                                                        │ as it is, or fixed up
 *                                                        ▼
 *                                                 port.deliver(frame)      ... flush()
 *
 * A frame is a list of views. The switch copies no bytes and keeps no frame. `deliver` runs inside
 * `input`. No port may call `input` from `deliver`, because scratch frames are in use there; the
 * switch asserts this. A port that throws in `deliver` is a bug of this program, and the exception
 * reaches the caller of `input`.
 *
 * The clock is read in `tick` only, so ages are exact to the tick.
 *
 * Source: IEEE 802.1D-2004, 7.7 to 7.9 (forwarding, learning, ageing); 802.1Q table 8-1 (addresses
 * a bridge never forwards).
 */

import { randomUUID } from "node:crypto";
import {
  DESTINATION,
  ETHER_HEADER_BYTES,
  formatMacParts,
  isGroup,
  isReserved,
  isZero,
  L2_BYTES,
  macHigh,
  macLow,
  SOURCE,
  VLAN_TAG_BYTES,
} from "../../shared/net/ethernet.ts";
import { type Frame, Gso, NO_QUEUE } from "../../shared/net/frame.ts";
import {
  longestSegment,
  type Refusal,
  Segmenter,
  type SegmentSink,
  segmentCount,
} from "../../shared/net/segment.ts";
import type { AddressEntry, Counts, SegmentStatus } from "../../shared/status/device-status.ts";
import { PortCounters } from "./counters.ts";
import { LeftPorts } from "./left-ports.ts";
import { inVlan, Learned, MacTable } from "./mac-table.ts";
import { factsHold, takes } from "./offload.ts";
import { optionsOf, PortPolicy } from "./policy.ts";
import { DropReason, type Port, type PortOffloads, type SwitchPort, Verdict } from "./port.ts";
import type { PortOptions, PortRule } from "./port-options.ts";
import { StormControl, type StormLimits } from "./storm.ts";
import type { PortTap, TapOfPort } from "./tap.ts";
import { NO_VLAN, PortVlans, VlanTags } from "./vlan.ts";

export interface SwitchOptions {
  readonly name: string;
  /** Id of the segment: the same for switches that uplinks connect. Default: random. */
  readonly id?: string;
  /** Returns the time (ms) of a monotonic clock. */
  now(): number;
  /** Time (s) after which an address that was not seen is forgotten. Default: 300. */
  readonly ageSeconds?: number;
  /** Maximum number of addresses learned behind one port. A frame from one more is dropped. */
  readonly macsPerPort?: number;
  /** Whether a unicast frame for a port without room is dropped (default) or held. */
  readonly whenFull?: "drop" | "hold";
  /** Limits of flooding. Default: none. */
  readonly storm?: StormLimits;
  /** Rules for ports. If one of them names a VLAN, the segment has VLANs. */
  readonly rules?: readonly PortRule[];
  /** Calls `run` in the next turn of the event loop. Without it no flood is flushed early. */
  readonly later?: (run: () => void) => void;
}

/** The address table at one moment. Each entry is read when `entry` is called. */
export interface AddressTable {
  /** Addresses as `tableKey` returns them, in rising order. */
  readonly keys: BigUint64Array;
  /** Returns the entry of a key, or undefined if the entry is gone. */
  entry(key: bigint): AddressEntry | undefined;
}

/** Report, once a second, of a port that broke a rule of the segment. Its frames were dropped. */
export interface PortNotice {
  /** Name of the port. */
  readonly port: string;
  readonly code: "MAC_SPOOF" | "STORM_LIMIT";
  readonly text: string;
}

/** Copies or segments that are as much work as a frame that a driver sends. */
const COPIES_OF_A_FRAME = 4;
/** Least number of ports for which a flood is flushed early. */
const EARLY_PORTS = 16;
/**
 * Most segments of one super-frame for all ports together: about 20 ms of work. 64 KiB in the
 * smallest segments of a driver (40 bytes) are 1639; in those of TCP over Ethernet they are 46.
 */
const MAX_SEGMENTS = 8192;

/** Rules of a client's port, where no other rule sets the same option. */
const CLIENT_OPTIONS: PortOptions = { sticky: 16 };
const NO_OFFLOADS: PortOffloads = { csum: false, tso4: false, tso6: false };
const NO_STORM_LIMITS: StormLimits = { broadcast: "off", multicast: "off", unknown: "off" };

/** Returns whether the options restrict what a port sends. */
const restricts = ({ addresses, sticky, rate, guard, mtu }: PortOptions): boolean =>
  [addresses, sticky, rate, mtu].some((option) => option !== undefined) || guard === true;

/** The switch's state of one port. */
interface Plug {
  readonly port: Port;
  readonly number: number;
  readonly counters: PortCounters;
  readonly handle: Handle;
  readonly isUplink: boolean;
  /** Set while a capture runs. */
  tap: PortTap | undefined;
  attached: boolean;
  /** Number of frames with addresses of other ports' NICs since the tick, and the last address. */
  spoofs: number;
  spoofHigh: number;
  spoofLow: number;
  /** Undefined without a limit. */
  readonly storm: StormControl | undefined;
  /** Options of the port from the rules. */
  readonly options: PortOptions;
  /** Undefined if the rules restrict nothing that the port sends. */
  readonly policy: PortPolicy | undefined;
  /** Undefined in a segment without VLANs. */
  readonly vlans: PortVlans | undefined;
  readonly isolated: boolean;
  /** Bytes of the longest frame for the port by its rules. */
  readonly mostBytes: number;
  /** True if the port received frames since its last flush. */
  dirty: boolean;
  /** Ports whose frames were held because this port had no room. */
  waiters: Plug[];
}

/** Not an object literal: each literal with an accessor has a shape of its own, which is slow. */
class Handle implements SwitchPort {
  onReady: (() => void) | undefined = undefined;
  work = 0;
  stale = false;
  readonly input: SwitchPort["input"];
  readonly flush: SwitchPort["flush"];
  readonly roomAgain: SwitchPort["roomAgain"];
  readonly detach: SwitchPort["detach"];
  readonly #counters: PortCounters;

  constructor(
    counters: PortCounters,
    input: SwitchPort["input"],
    flush: SwitchPort["flush"],
    roomAgain: SwitchPort["roomAgain"],
    detach: SwitchPort["detach"],
  ) {
    this.#counters = counters;
    this.input = input;
    this.flush = flush;
    this.roomAgain = roomAgain;
    this.detach = detach;
  }

  get taken(): number {
    return this.#counters.out.frames - this.#counters.lostOutFrames;
  }

  drop(reason: DropReason, direction: "in" | "out", frames = 1): void {
    this.#counters.lost[direction][reason] += frames;
    if (direction === "out") this.#counters.lostOutFrames += frames;
  }
}

export class Switch {
  readonly name: string;
  readonly id: string;
  readonly #now: () => number;
  readonly #hold: boolean;
  readonly #storm: StormLimits | undefined;
  readonly #rules: readonly PortRule[];
  /** Undefined in a segment without VLANs. */
  readonly #tags: VlanTags | undefined;
  readonly #later: SwitchOptions["later"];
  readonly #macs: MacTable;
  readonly #segmenter = new Segmenter();
  readonly #ether = new Uint8Array(ETHER_HEADER_BYTES);

  /** Ports by number. A freed number is used again. */
  readonly #plugs: (Plug | undefined)[] = [];
  /** Number of ports in `#plugs`, and number of uplinks among them. */
  #attached = 0;
  #uplinks = 0;
  /** Number of ports of the device itself, which ignore most floods. */
  #own = 0;
  readonly #dirty: Plug[] = [];
  #dirtyCount = 0;
  /** Destinations of the current frame that don't accept it as it is. */
  readonly #lacking: Plug[] = [];
  #lackingCount = 0;
  /** Number of frames given to ports for the current frame. */
  #given = 0;
  readonly #fixed: SegmentSink;
  #time: number;
  #delivering = false;
  /** True after a flood of this turn was flushed early. */
  #wasEarly = false;
  /** Ports that reported room during a delivery. Their waiters are woken after the delivery. */
  #roomLater: Plug[] = [];
  readonly #left = new LeftPorts();
  #tapOf: TapOfPort | undefined;
  /** Called in `tick` for each port that broke a rule of the segment. */
  onNotice: ((notice: PortNotice) => void) | undefined;
  /** Called when a port was detached, with its last counters. */
  onLeft: ((name: string, counters: PortCounters) => void) | undefined;
  /** Number of frames passed to a handle after its port was detached. */
  #lateFrames = 0;

  constructor(options: SwitchOptions) {
    this.name = options.name;
    this.id = options.id ?? randomUUID();
    // Whole milliseconds are small integers for weeks, and small integers are never boxed.
    this.#now = () => Math.floor(options.now());
    this.#time = this.#now();
    this.#hold = options.whenFull === "hold";
    this.#storm = options.storm;
    this.#rules = options.rules ?? [];
    const hasVlans = this.#rules.some(({ access, trunk }) => access ?? trunk);
    this.#tags = hasVlans ? new VlanTags() : undefined;
    this.#later = options.later;
    this.#macs = new MacTable({
      ageMs: (options.ageSeconds ?? 300) * 1000,
      perPort: options.macsPerPort ?? 1024,
    });
    this.#fixed = { segment: (frame) => this.#giveLacking(frame) };
  }

  /** Returns the options that the rules give to a port of this name. */
  optionsOf(port: string): PortOptions {
    return optionsOf(this.#rules, port);
  }

  portNames(): string[] {
    return this.#plugs.flatMap((plug) => plug?.port.name ?? []);
  }

  hasPort(name: string): boolean {
    return this.#plugs.some((plug) => plug?.port.name === name);
  }

  /** Yields the name and the counters of each port that is attached. */
  *portCounters(): Generator<readonly [name: string, counters: PortCounters]> {
    for (const plug of this.#plugs) if (plug !== undefined) yield [plug.port.name, plug.counters];
  }

  /** Taps all ports, later ones too, with taps that `tapOf` creates. Undefined removes all taps. */
  setTap(tapOf: TapOfPort | undefined): void {
    this.#tapOf = tapOf;
    for (const plug of this.#plugs) if (plug !== undefined) plug.tap = tapOf?.(plug.port);
  }

  /**
   * Attaches a port. `mac` is the address of the NIC behind the port; an uplink has none. No other
   * port may use that address as a source, and its table entry stays while the port is attached.
   */
  attach(port: Port, mac?: Uint8Array): SwitchPort {
    let number = this.#plugs.indexOf(undefined);
    if (number < 0) number = this.#plugs.length;
    const counters = new PortCounters();
    const isUplink = mac === undefined && port.isClient !== true;
    const options: PortOptions = {
      ...(port.isClient === true ? CLIENT_OPTIONS : {}),
      ...optionsOf(this.#rules, port.name, port.isOwn),
    };
    const plug: Plug = {
      port,
      number,
      isUplink,
      counters,
      tap: this.#tapOf?.(port),
      attached: true,
      spoofs: 0,
      spoofHigh: 0,
      spoofLow: 0,
      storm:
        this.#storm === undefined && options.storm === undefined
          ? undefined
          : new StormControl(this.#storm ?? NO_STORM_LIMITS, isUplink, options.storm),
      options,
      policy: restricts(options) ? new PortPolicy(options, mac) : undefined,
      vlans: this.#tags === undefined ? undefined : new PortVlans(options),
      isolated: options.isolated === true,
      mostBytes: options.mtu === undefined ? Number.POSITIVE_INFINITY : options.mtu + L2_BYTES,
      dirty: false,
      waiters: [],
      handle: new Handle(
        counters,
        (frame) => this.#input(plug, frame),
        () => this.#flush(),
        () => this.#wakeWaiters(plug),
        () => this.#detach(plug),
      ),
    };
    this.#plugs[number] = plug;
    this.#attached++;
    if (port.isOwn === true) this.#own++;
    if (isUplink) this.#uplinks++;
    if (mac !== undefined) this.#macs.addStatic(macHigh(mac, 0), macLow(mac, 0), number);
    return plug.handle;
  }

  /** Reads the clock, removes old addresses and reports notices. Call it about once a second. */
  tick(): void {
    this.#time = this.#now();
    this.#macs.sweep(this.#time);
    for (const plug of this.#plugs) {
      if (plug === undefined) continue;
      if (plug.spoofs > 0) this.#tellSpoof(plug);
      if (plug.storm !== undefined) this.#tellStorm(plug, plug.storm);
    }
  }

  #tellSpoof(plug: Plug): void {
    const { spoofs, spoofHigh, spoofLow } = plug;
    plug.spoofs = 0;
    const number = this.#macs.lookup(spoofHigh, spoofLow, this.#time);
    const owner = this.#plugs[number]?.port.name ?? "";
    const port = plug.port.name;
    const mac = formatMacParts(spoofHigh, spoofLow);
    const text = `${port} sent ${spoofs} frames with the source ${mac}, which is the address of ${owner}: dropped`;
    this.onNotice?.({ port, code: "MAC_SPOOF", text });
  }

  #tellStorm(plug: Plug, storm: StormControl): void {
    const port = plug.port.name;
    for (const { kind, frames, limit } of storm.reports()) {
      const what = kind === "unknown" ? "frames for unknown addresses" : `${kind} frames`;
      const text = `${port} sent ${frames} ${what} above its limit of ${limit} a second: dropped`;
      this.onNotice?.({ port, code: "STORM_LIMIT", text });
    }
  }

  snapshot(): SegmentStatus {
    return {
      name: this.name,
      id: this.id,
      ports: this.#plugs
        .filter((plug) => plug !== undefined)
        .map((plug) => ({
          name: plug.port.name,
          kind: plug.port.kind,
          macs: this.#macs.learnedBy(plug.number),
          ...(Object.keys(plug.options).length === 0 ? {} : { rules: plug.options }),
          ...plug.counters.snapshot(),
        })),
      left: this.#left.snapshot(),
      storm: Object.fromEntries(
        Object.entries(this.#storm ?? {}).filter(([, limit]) => limit !== "off"),
      ) as Counts,
      addresses: this.#macs.size,
      learned: this.#plugs.reduce((sum, plug) => sum + this.#macs.learnedBy(plug?.number ?? -1), 0),
      macMoves: this.#macs.moves,
      macMovesDamped: this.#macs.damped,
      macsAged: this.#macs.aged,
      macTableFull: this.#macs.tableFull,
      lateFrames: this.#lateFrames,
    };
  }

  /**
   * Returns the port behind which the port `from` finds an address (a MAC key): that of a NIC, or
   * that which used the address last in the VLAN of `from`.
   */
  portOf(
    mac: number,
    from: string,
  ): { readonly name: string; readonly isUplink: boolean } | undefined {
    const own = this.#tags && this.#plugs.find((plug) => plug?.port.name === from);
    const vlan = own?.vlans?.untagged ?? NO_VLAN;
    const plug = this.#plugs[this.#lookup(Math.floor(mac / 2 ** 32), mac | 0, vlan)];
    return plug === undefined ? undefined : { name: plug.port.name, isUplink: plug.isUplink };
  }

  addresses(): AddressTable {
    const keys = this.#macs.keys(this.#time);
    const nameOf = (number: number): string => this.#plugs[number]?.port.name ?? "";
    const entry = (key: bigint): AddressEntry | undefined => {
      const found = this.#macs.entry(key, this.#time);
      if (found === undefined) return undefined;
      return {
        mac: found.mac,
        ...(found.vlan === NO_VLAN ? {} : { vlan: found.vlan }),
        port: nameOf(found.port),
        static: found.isStatic,
        ageSeconds: Math.round(found.ageMs / 1000),
        moves: found.moves,
        movedFrom: nameOf(found.previousPort),
      };
    };
    return { keys, entry };
  }

  #input(from: Plug, sent: Frame): Verdict {
    if (this.#delivering) throw new Error(`${from.port.name}: input from within deliver`);
    if (!from.attached) {
      this.#lateFrames++;
      return Verdict.DONE;
    }
    if (from.handle.stale) return this.#refuse(from, sent, DropReason.STALE);
    if (sent.length < ETHER_HEADER_BYTES) return this.#refuse(from, sent, DropReason.RUNT);
    const bytes = this.#etherHeader(sent);
    const at = bytes === this.#ether ? 0 : sent.offsets[0]!;
    const high = macHigh(bytes, at + DESTINATION);
    const low = macLow(bytes, at + DESTINATION);
    const sourceHigh = macHigh(bytes, at + SOURCE);
    const sourceLow = macLow(bytes, at + SOURCE);
    if (isGroup(sourceHigh) || isZero(sourceHigh, sourceLow)) {
      return this.#refuse(from, sent, DropReason.BAD_SOURCE);
    }
    if (isReserved(high, low)) return this.#refuse(from, sent, DropReason.RESERVED_ADDRESS);
    if (!factsHold(sent)) {
      return this.#refuse(from, sent, DropReason.MALFORMED_OFFLOAD);
    }
    let frame = sent;
    let vlan = NO_VLAN;
    if (from.vlans !== undefined) {
      const bare = this.#tags!.enter(sent, from.vlans);
      if (bare === undefined) return this.#refuse(from, sent, DropReason.VLAN_DENIED);
      frame = bare;
      vlan = this.#tags!.vlan;
    }

    const number = isGroup(high) ? -1 : this.#lookup(high, low, vlan);
    const to = number < 0 ? undefined : this.#plugs[number];
    if (to !== undefined && to !== from && from.isolated && to.isolated) {
      return this.#refuse(from, sent, DropReason.ISOLATED);
    }
    // Must precede all counting and learning, because the sender sends a held frame again.
    if (this.#hold && to !== undefined && to !== from && !this.#hasRoom(to, frame)) {
      from.counters.in.held++;
      if (!to.waiters.includes(from)) to.waiters.push(from);
      return Verdict.HELD;
    }

    if (from.policy !== undefined) {
      const longest = frame.gso === Gso.NONE ? frame.length : longestSegment(frame);
      const source = sourceHigh * 2 ** 32 + (sourceLow >>> 0);
      const reason = from.policy.refuse(frame, source, longest, this.#now());
      if (reason !== undefined) return this.#refuse(from, sent, reason);
    }
    const learned = this.#learn(from, sourceHigh, sourceLow, vlan);
    if (learned === Learned.PORT_FULL) {
      return this.#refuse(from, sent, DropReason.MAC_LIMIT);
    }
    if (learned === Learned.STATIC) {
      from.spoofs++;
      from.spoofHigh = sourceHigh;
      from.spoofLow = sourceLow;
      return this.#refuse(from, sent, DropReason.MAC_SPOOF);
    }
    if (to === from) return this.#refuse(from, sent, DropReason.HAIRPIN);
    if (to === undefined) {
      if (this.#attached === 1) return this.#refuse(from, sent, DropReason.NO_PORT);
      const reason = this.#amplifies() ? from.storm?.refuse(high, low, this.#now()) : undefined;
      if (reason !== undefined) return this.#refuse(from, sent, reason);
    }
    if (from.tap !== undefined) {
      from.tap.entered(sent, undefined);
      frame.id = sent.id;
    }

    const counters = from.counters.in;
    this.#lackingCount = 0;
    this.#given = 0;
    this.#delivering = true;
    try {
      if (to !== undefined) {
        counters.frames++;
        counters.bytes += frame.length;
        counters.forwarded++;
        this.#offer(to, frame);
      } else {
        const copies = this.#flood(from, frame);
        counters.frames++;
        counters.bytes += frame.length;
        counters.flooded++;
        counters.copies += copies;
      }
      if (this.#lackingCount > 0) this.#fix(frame);
      from.handle.work = Math.max(1, Math.ceil(this.#given / COPIES_OF_A_FRAME));
    } finally {
      this.#delivering = false;
    }
    if (this.#roomLater.length > 0) this.#wakeLater();
    return Verdict.DONE;
  }

  /** Returns the number of the port behind which an address is, or -1. */
  #lookup(high: number, low: number, vlan: number): number {
    // Addresses of NICs are in the table without a VLAN.
    const number = this.#macs.lookup(high, low, this.#time);
    if (vlan === NO_VLAN) return number;
    if (number < 0) return this.#macs.lookup(inVlan(high, vlan), low, this.#time);
    return this.#plugs[number]!.vlans!.has(vlan) ? number : -1;
  }

  #learn(from: Plug, high: number, low: number, vlan: number): Learned {
    if (from.port.isClient === true) {
      const owner = this.#lookup(high, low, vlan);
      if (owner >= 0 && owner !== from.number) return Learned.STATIC;
    }
    if (vlan === NO_VLAN) return this.#macs.learn(high, low, from.number, this.#time);
    const owner = this.#macs.lookup(high, low, this.#time);
    if (owner >= 0) return owner === from.number ? Learned.KNOWN : Learned.STATIC;
    return this.#macs.learn(inVlan(high, vlan), low, from.number, this.#time);
  }

  /** True unless a flood reaches one NIC only. Such a flood costs no more than unicast. */
  #amplifies(): boolean {
    return this.#attached - this.#own > 2 || this.#uplinks > 0;
  }

  #flood(from: Plug, frame: Frame): number {
    let copies = 0;
    const isEarly = this.#mayFlushEarly();
    for (let i = 0; i < this.#plugs.length; i++) {
      const to = this.#plugs[i];
      if (to === undefined || to === from || (from.isolated && to.isolated)) continue;
      if (to.vlans?.has(this.#tags!.vlan) === false) continue;
      copies++;
      this.#offer(to, frame);
      if (isEarly && to.dirty) {
        // `#dirty` was empty.
        this.#dirtyCount--;
        to.dirty = false;
        to.port.flush(true);
      }
    }
    return copies;
  }

  /**
   * True if a flood may flush each port behind its copy, while the tables of that port are in the
   * cache. A broadcast to 254 NICs costs 10 to 30 % less then. Only the first flood of a turn does it:
   * when many ports flood in one turn, each port's copies share a message.
   */
  #mayFlushEarly(): boolean {
    if (this.#wasEarly || this.#attached < EARLY_PORTS || this.#dirtyCount > 0) return false;
    if (this.#later === undefined) return false;
    this.#wasEarly = true;
    this.#later(() => {
      this.#wasEarly = false;
    });
    return true;
  }

  /** Delivers the frame if the port accepts it as it is. Other ports are recorded for `#fix`. */
  #offer(to: Plug, frame: Frame): void {
    if (!this.#fits(to, frame)) {
      this.#lose(to, frame, DropReason.TOO_BIG);
    } else if (takes(this.#offloads(to), frame)) {
      this.#give(to, frame);
    } else {
      this.#lacking[this.#lackingCount++] = to;
    }
  }

  /**
   * Returns the offloads of a port for the current frame. A frame with a tag has none: guests accept
   * offload facts for IP directly behind the Ethernet header only.
   */
  #offloads(to: Plug): PortOffloads {
    return this.#isTagged(to) ? NO_OFFLOADS : to.port.offloads;
  }

  /** Returns whether the port gets the current frame with a tag. */
  #isTagged(to: Plug): boolean {
    return to.vlans !== undefined && to.vlans.untagged !== this.#tags!.vlan;
  }

  /** Segments the frame or completes its checksum, once for all recorded ports. */
  #fix(frame: Frame): void {
    const cut = frame.gso !== Gso.NONE;
    const segments = cut ? segmentCount(frame) : 0;
    if (segments * this.#lackingCount > MAX_SEGMENTS) {
      for (let i = 0; i < this.#lackingCount; i++) {
        this.#lose(this.#lacking[i]!, frame, DropReason.TOO_MANY_SEGMENTS);
      }
      return;
    }
    const refusal = cut ? this.#cut(frame) : this.#segmenter.complete(frame, this.#fixed);
    if (refusal === undefined) {
      for (let i = 0; i < this.#lackingCount; i++) {
        const out = this.#lacking[i]!.counters.out;
        if (cut) {
          out.segmentedFrames++;
          out.segments += segments;
        } else {
          out.checksummed++;
        }
      }
      return;
    }
    for (let i = 0; i < this.#lackingCount; i++) {
      this.#lose(this.#lacking[i]!, frame, DropReason.MALFORMED_OFFLOAD);
    }
  }

  /** Delivers the segments of a super-frame to all recorded ports. Returns as Segmenter.complete. */
  #cut(frame: Frame): Refusal | undefined {
    const segmenter = this.#segmenter;
    const refusal = segmenter.begin(frame);
    if (refusal !== undefined) return refusal;
    const to = this.#lacking[0]!;
    // A tap looks at frames.
    if (this.#lackingCount === 1 && to.attached && to.tap === undefined && !this.#isTagged(to)) {
      to.port.deliverSegments?.(segmenter);
      to.counters.out.offered += segmenter.built;
      this.#given += segmenter.built;
      if (segmenter.built > 0) this.#accepted(to, segmenter.built, segmenter.builtBytes);
    }
    segmenter.rest(this.#fixed);
    return undefined;
  }

  #giveLacking(frame: Frame): void {
    for (let i = 0; i < this.#lackingCount; i++) this.#give(this.#lacking[i]!, frame);
  }

  #give(to: Plug, frame: Frame): void {
    const out = to.counters.out;
    out.offered++;
    this.#given++;
    const form = to.vlans === undefined || !this.#isTagged(to) ? frame : this.#tags!.tag(frame);
    // A port may detach itself or another port while a frame is delivered.
    const reason = !to.attached
      ? DropReason.PORT_DOWN
      : form === undefined
        ? DropReason.MALFORMED_OFFLOAD
        : to.tap === undefined
          ? to.port.deliver(form)
          : this.#deliverSeen(to, to.tap, form);
    if (reason !== undefined) {
      out.dropped[reason]++;
      return;
    }
    this.#accepted(to, 1, form!.length);
  }

  #accepted(to: Plug, frames: number, bytes: number): void {
    const { out } = to.counters;
    out.frames += frames;
    out.bytes += bytes;
    if (to.dirty) return;
    to.dirty = true;
    this.#dirty[this.#dirtyCount++] = to;
  }

  /**
   * Delivers the frame, unless the switch itself drops it for `lost`. Reports the result to the
   * tap. Restores `frame.queue` for other ports.
   */
  #deliverSeen(to: Plug, tap: PortTap, frame: Frame, lost?: DropReason): DropReason | undefined {
    const { queue } = frame;
    frame.queue = NO_QUEUE;
    const reason = lost ?? to.port.deliver(frame);
    tap.delivered(frame, reason);
    frame.queue = queue;
    return reason;
  }

  /** Counts a frame that the switch itself dropped. */
  #lose(to: Plug, frame: Frame, reason: DropReason): void {
    to.counters.out.offered++;
    to.counters.out.dropped[reason]++;
    if (to.tap !== undefined) this.#deliverSeen(to, to.tap, frame, reason);
  }

  #fits(to: Plug, frame: Frame): boolean {
    const bytes = frame.gso === Gso.NONE ? frame.length : longestSegment(frame);
    const all = this.#isTagged(to) ? bytes + VLAN_TAG_BYTES : bytes;
    return all <= to.port.maxFrameBytes && all <= to.mostBytes;
  }

  /** Returns whether `to` has room. True for a frame that is too big, which is then dropped. */
  #hasRoom(to: Plug, frame: Frame): boolean {
    if (!this.#fits(to, frame)) return true;
    const tag = this.#isTagged(to) ? VLAN_TAG_BYTES : 0;
    if (frame.gso === Gso.NONE || takes(this.#offloads(to), frame)) {
      return to.port.ready(frame.length + tag, 1);
    }
    return to.port.ready(longestSegment(frame) + tag, segmentCount(frame));
  }

  #refuse(from: Plug, frame: Frame, reason: DropReason): Verdict {
    const counters = from.counters.in;
    counters.frames++;
    counters.bytes += frame.length;
    counters.dropped[reason]++;
    from.handle.work = 1;
    if (from.tap !== undefined) from.tap.entered(frame, reason);
    return Verdict.DONE;
  }

  /** Returns the span with the whole Ethernet header, or a copy of the header if no span has it. */
  #etherHeader(frame: Frame): Uint8Array {
    if (frame.lengths[0]! >= ETHER_HEADER_BYTES) return frame.buffers[0]!;
    frame.copyTo(this.#ether, 0, 0, ETHER_HEADER_BYTES);
    return this.#ether;
  }

  /** Flushes from the end of the list, so that a nested flush continues with the rest. */
  #flush(): void {
    while (this.#dirtyCount > 0) {
      const plug = this.#dirty[--this.#dirtyCount]!;
      plug.dirty = false;
      if (plug.attached) plug.port.flush();
    }
  }

  #wakeWaiters(plug: Plug): void {
    const waiters = plug.waiters;
    if (waiters.length === 0) return;
    if (this.#delivering) {
      this.#roomLater.push(plug);
      return;
    }
    plug.waiters = [];
    for (const waiter of waiters) if (waiter.attached) waiter.handle.onReady?.();
  }

  #wakeLater(): void {
    const plugs = this.#roomLater;
    this.#roomLater = [];
    for (const plug of plugs) this.#wakeWaiters(plug);
  }

  #detach(plug: Plug): void {
    if (!plug.attached) return;
    plug.attached = false;
    plug.tap?.detached();
    plug.tap = undefined;
    this.#plugs[plug.number] = undefined;
    this.#attached--;
    if (plug.port.isOwn === true) this.#own--;
    if (plug.isUplink) this.#uplinks--;
    this.#left.add(plug.port, plug.counters, (name) => this.hasPort(name));
    this.onLeft?.(plug.port.name, plug.counters);
    this.#macs.forgetPort(plug.number);
    for (const other of this.#plugs) {
      const at = other?.waiters.indexOf(plug) ?? -1;
      if (at >= 0) other?.waiters.splice(at, 1);
    }
    // Frames that the waiters hold for this port are flooded now, or dropped.
    this.#wakeWaiters(plug);
  }
}
