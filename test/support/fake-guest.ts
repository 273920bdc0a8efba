/**
 * A guest that drives a netback by hand: its own pages, grants and rings, one step a method, and
 * nothing checked on its behalf, so that a test does all of them right, or one wrong.
 *
 *   FakeGuest ── GrantTable, EventChannels (the real ones) ── Netback ── FakeSurroundings
 *      queue(i).tx, .rx, control: FrontRing, the guest's half of a ring
 *
 * What the guest writes to a ring page goes to its own page and to the device's window at once;
 * `batchEnd` says that a batch with all of it has been applied.
 */
import { EventChannels } from "../../device/xen/event-channel.ts";
import type { NetbackConfig } from "../../device/xen/netback/config.ts";
import { Netback } from "../../device/xen/netback/netback.ts";
import { distance } from "../../shared/ring/index32.ts";
import {
  CTRL_SLOT_SIZE,
  type CtrlRequest,
  ctrlRequest,
  ctrlResponse,
} from "../../shared/xen/control.ts";
import { ExtraType, extra } from "../../shared/xen/extra.ts";
import {
  GNTTAB_NR_RESERVED_ENTRIES,
  GrantFlag,
  GrantType,
  grantRef,
} from "../../shared/xen/grant.ts";
import {
  RX_SLOT_SIZE,
  RxFlag,
  rxRequest,
  rxResponse,
  TX_SLOT_SIZE,
  TxFlag,
  txRequest,
  txResponse,
} from "../../shared/xen/netif.ts";
import { FrontRing } from "./fake-front-ring.ts";
import { FakeGuestMemory, PAGE } from "./fake-guest-memory.ts";
import { FakeSurroundings } from "./fake-host.ts";
import { GuestGrants } from "./guest-grants.ts";

export const GUEST = 1;
const BACKEND = 0;
const FIRST_FRAME = 0x100;

export interface GuestQueue {
  readonly tx: FrontRing;
  readonly rx: FrontRing;
  readonly txPort: number;
  readonly rxPort: number;
  /** Reference of the page behind each receive request, by ring slot. */
  readonly posted: number[];
}

/** One piece of a packet to send. */
export interface Piece {
  readonly bytes: Uint8Array;
  readonly offset?: number;
  /** Said in place of the length. */
  readonly size?: number;
  /** Used in place of a new page. */
  readonly gref?: number;
}

export interface SendOptions {
  readonly queue?: number;
  readonly flags?: number;
  /** Writers of extra info slots, in order; each is told whether another follows. */
  readonly extras?: readonly ((view: DataView, at: number, more: number) => void)[];
  /** False: the device has to ask for the bytes. */
  readonly push?: boolean;
  /** Said in place of the sum of the pieces. */
  readonly total?: number;
}

export interface Sent {
  readonly ids: number[];
  readonly grefs: number[];
}

export interface TxDone {
  readonly id: number;
  readonly status: number;
  /** The eight bytes of the slot that mean nothing. */
  readonly rest: Uint8Array;
}

export interface RxPacket {
  readonly bytes: Uint8Array;
  readonly flags: number;
  readonly statuses: number[];
  readonly gso?: { readonly size: number; readonly type: number };
  readonly hash?: { readonly type: number; readonly algorithm: number; readonly value: number };
  readonly slots: number;
}

export interface GuestOptions extends Partial<Omit<NetbackConfig, "queues" | "control">> {
  readonly queues?: number;
  readonly split?: boolean;
  readonly control?: boolean;
  /** Indexes begin here. */
  readonly start?: number;
  readonly maxFrameBytes?: number;
}

const DEFAULTS = {
  rxNotify: true,
  sg: true,
  gsoTcpv4: true,
  gsoTcpv6: true,
  noCsumOffload: false,
  ipv6CsumOffload: true,
  multicastControl: false,
};

export class FakeGuest {
  readonly memory = new FakeGuestMemory();
  readonly host = new FakeSurroundings(this.memory, { name: "vif1.0", queues: 8 });
  readonly #entries = new GuestGrants({ domid: GUEST }, (told) => {
    this.memory.posted.push({ kind: "use", ...told });
  });
  readonly grants = this.#entries.table;
  readonly events: EventChannels;
  readonly netback: Netback;
  readonly fatals: { readonly code: string; readonly text: string }[] = [];
  /** Called from within `fatal`. */
  onFatal: (() => void) | undefined;
  queues: GuestQueue[] = [];
  control: { readonly ring: FrontRing; readonly port: number } | undefined;
  readonly options: GuestOptions;
  #nextFrame = FIRST_FRAME;
  #nextRef = GNTTAB_NR_RESERVED_ENTRIES;
  readonly #freeRefs: number[] = [];
  #nextId = 0;

  constructor(options: GuestOptions = {}) {
    this.options = options;
    this.events = new EventChannels({ now: this.host.clock.now });
    this.events.attach(GUEST, (port) => {
      this.memory.posted.push({ kind: "event", port });
    });
    this.netback = new Netback({
      host: this.host,
      grants: this.grants,
      events: this.events,
      domid: GUEST,
      maxFrameBytes: options.maxFrameBytes ?? 9234,
      fatal: (code, text) => {
        this.fatals.push({ code, text });
        this.onFatal?.();
      },
    });
  }

  /** A guest whose interface is connected. */
  static connected(options: GuestOptions = {}): FakeGuest {
    const guest = new FakeGuest(options);
    const error = guest.connect();
    if (error !== undefined) throw new Error(error);
    return guest;
  }

  /** New rings and ports, and `connect`; what it answers. */
  connect(change: Partial<NetbackConfig> = {}): string | undefined {
    const { split = true, start = 0, control = false } = this.options;
    this.queues = Array.from({ length: this.options.queues ?? 1 }, () => {
      const txPort = this.newPort();
      return {
        tx: this.#ring(TX_SLOT_SIZE, start),
        rx: this.#ring(RX_SLOT_SIZE, start),
        txPort,
        rxPort: split ? this.newPort() : txPort,
        posted: [],
      };
    });
    if (control) this.control = { ring: this.#ring(CTRL_SLOT_SIZE, start), port: this.newPort() };
    return this.netback.connect({ ...this.config(), ...change });
  }

  #ring(slotBytes: number, start: number): FrontRing {
    const frame = this.newFrame();
    const page = this.memory.page(frame);
    this.memory.addWindow(frame);
    const copy = (at: number, length: number): void => {
      const window = this.memory.window(frame * PAGE, PAGE)!;
      window.bytes.set(page.subarray(at, at + length), at);
    };
    return new FrontRing({ reference: this.grant(frame), frame, page }, slotBytes, copy, start);
  }

  config(): NetbackConfig {
    const {
      queues: _queues,
      control: _control,
      split,
      start,
      maxFrameBytes,
      ...chosen
    } = this.options;
    const { control } = this;
    return {
      ...DEFAULTS,
      ...chosen,
      queues: this.queues.map(({ tx, rx, txPort, rxPort }) => ({
        txRingRef: tx.reference,
        rxRingRef: rx.reference,
        txPort,
        rxPort,
      })),
      ...(control && { control: { ringRef: control.ring.reference, port: control.port } }),
    };
  }

  queue(i = 0): GuestQueue {
    return this.queues[i]!;
  }

  // Pages, grants, ports.

  newFrame(): number {
    return this.#nextFrame++;
  }

  newPort(): number {
    const port = this.events.allocUnbound(GUEST, GUEST, BACKEND);
    if (port < 0) throw new Error(`no port: ${port}`);
    return port;
  }

  /** Grants a page to the backend. Returns the reference. */
  grant(frame: number, { readonly = false, domid = BACKEND } = {}): number {
    const reference = this.#freeRefs.pop() ?? this.#nextRef++;
    const flags = GrantType.PERMIT_ACCESS | (readonly ? GrantFlag.READONLY : 0);
    this.#entries.grant([[reference, { flags, domid, frame }]]);
    this.memory.entries.set(reference, { frame, readonly });
    return reference;
  }

  /** Ends access. False when the guest was told that the entry is in use. */
  end(reference: number): boolean {
    if ((this.#entries.readers.get(reference) ?? 0) > 0) return false;
    this.#entries.end(reference);
    this.memory.entries.delete(reference);
    this.#freeRefs.push(reference);
    return true;
  }

  /** References that somebody uses, by what the guest was told. */
  get inUse(): number[] {
    return [...this.#entries.readers].filter(([, n]) => n !== 0).map(([reference]) => reference);
  }

  /** A granted page with these bytes at `offset`. Returns the reference. */
  buffer(bytes: Uint8Array, offset = 0, options = { readonly: true }): number {
    const frame = this.newFrame();
    this.memory.page(frame).set(bytes, offset);
    return this.grant(frame, options);
  }

  // Transmit.

  /** Puts one packet into the ring; not shown yet. */
  post(pieces: readonly Piece[], options: SendOptions = {}): Sent {
    const { tx } = this.queue(options.queue);
    const extras = options.extras ?? [];
    const ids: number[] = [];
    const grefs: number[] = [];
    const total = options.total ?? pieces.reduce((sum, p) => sum + (p.size ?? p.bytes.length), 0);
    pieces.forEach((piece, i) => {
      const offset = piece.offset ?? 0;
      const gref = piece.gref ?? this.buffer(piece.bytes, offset);
      const id = this.#nextId++ & 0xffff;
      ids.push(id);
      grefs.push(gref);
      if ((options.push ?? true) && piece.bytes.length > 0 && this.memory.entries.has(gref)) {
        this.memory.push(gref * PAGE + offset, piece.bytes.length);
      }
      let flags = i < pieces.length - 1 ? TxFlag.MORE_DATA : 0;
      if (i === 0) flags |= (options.flags ?? 0) | (extras.length > 0 ? TxFlag.EXTRA_INFO : 0);
      const size = i === 0 ? total : (piece.size ?? piece.bytes.length);
      tx.request((view, at) => txRequest.write(view, at, grantRef(gref), offset, flags, id, size));
      if (i > 0) return;
      extras.forEach((write, n) => {
        tx.request((view, at) => write(view, at, n < extras.length - 1 ? 1 : 0));
      });
    });
    return { ids, grefs };
  }

  /** Shows what was posted, rings if that is asked for, and ends the batch. */
  kick(i = 0): void {
    const { tx, txPort } = this.queue(i);
    if (tx.publish()) this.notify(txPort);
    this.netback.batchEnd();
  }

  /** One packet, shown. */
  send(pieces: readonly Piece[], options: SendOptions = {}): Sent {
    const sent = this.post(pieces, options);
    this.kick(options.queue);
    return sent;
  }

  notify(port: number): void {
    this.events.send(GUEST, port);
  }

  /** Responses since the last call. */
  sent(i = 0): TxDone[] {
    const { tx } = this.queue(i);
    const done: TxDone[] = [];
    while (tx.waiting > 0) {
      const at = tx.response();
      done.push({
        id: txResponse.id(tx.view, at),
        status: txResponse.status(tx.view, at),
        rest: new Uint8Array(tx.view.buffer).slice(at + 4, at + TX_SLOT_SIZE),
      });
    }
    return done;
  }

  // Receive.

  /** Posts `count` empty pages, shows them, and ends the batch. */
  postRx(count: number, i = 0, gref?: number): void {
    const { rx, rxPort, posted } = this.queue(i);
    for (let n = 0; n < count; n++) {
      const reference = gref ?? this.grant(this.newFrame());
      const slot = rx.reqProdPvt & (rx.size - 1);
      posted[slot] = reference;
      rx.request((view, at) => rxRequest.write(view, at, slot, grantRef(reference)));
    }
    if (rx.publish()) this.notify(rxPort);
    this.netback.batchEnd();
  }

  /** Packets since the last call; their grants are ended. */
  received(i = 0): RxPacket[] {
    const { rx } = this.queue(i);
    const packets: RxPacket[] = [];
    while (rx.waiting > 0) packets.push(this.#receive(this.queue(i)));
    return packets;
  }

  #receive(queue: GuestQueue): RxPacket {
    const { rx } = queue;
    const before = rx.rspCons;
    const parts: Uint8Array[] = [];
    const statuses: number[] = [];
    let gso: RxPacket["gso"];
    let hash: RxPacket["hash"];
    let first = -1;
    let more = true;
    while (more) {
      const reference = this.#takePosted(queue);
      const at = rx.response();
      const flags = rxResponse.flags(rx.view, at);
      const status = rxResponse.status(rx.view, at);
      statuses.push(status);
      if (status > 0) {
        const { frame } = this.memory.entries.get(reference)!;
        const offset = rxResponse.offset(rx.view, at);
        parts.push(this.memory.page(frame).slice(offset, offset + status));
      }
      this.#endOnce(reference);
      if (first < 0) first = flags;
      let another = (flags & RxFlag.EXTRA_INFO) !== 0;
      while (another) {
        this.#endOnce(this.#takePosted(queue));
        const here = rx.response();
        another = (extra.flags(rx.view, here) & 1) !== 0;
        if (extra.type(rx.view, here) === ExtraType.GSO) {
          gso = { size: extra.gsoSize(rx.view, here), type: extra.gsoType(rx.view, here) };
        } else {
          hash = {
            type: extra.hashType(rx.view, here),
            algorithm: extra.hashAlgorithm(rx.view, here),
            value: extra.hashValue(rx.view, here),
          };
        }
      }
      more = (flags & RxFlag.MORE_DATA) !== 0;
    }
    return {
      bytes: Uint8Array.from(Buffer.concat(parts)),
      flags: first,
      statuses,
      slots: distance(before, rx.rspCons),
      ...(gso === undefined ? {} : { gso }),
      ...(hash === undefined ? {} : { hash }),
    };
  }

  #takePosted({ rx, posted }: GuestQueue): number {
    return posted[rx.rspCons & (rx.size - 1)]!;
  }

  #endOnce(reference: number): void {
    if (this.memory.entries.has(reference)) this.end(reference);
  }

  // Control ring.

  /** One request, shown. */
  ask(request: Partial<CtrlRequest>): void {
    const { ring, port } = this.control!;
    ring.request((view, at) => ctrlRequest.write(view, at, request));
    if (ring.publish()) this.notify(port);
    this.netback.batchEnd();
  }

  /** Answers since the last call. */
  answers(): { id: number; type: number; status: number; data: number }[] {
    const { ring } = this.control!;
    const answers = [];
    while (ring.waiting > 0) answers.push(ctrlResponse.parse(ring.view, ring.response()));
    return answers;
  }

  /** Codes of what was fatal so far; forgets them. */
  takeFatals(): string[] {
    return this.fatals.splice(0).map((f) => f.code);
  }

  /** Takes what was posted to the guest so far. */
  takePosted() {
    return this.memory.posted.splice(0);
  }
}
