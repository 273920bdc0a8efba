/**
 * A guest that drives a netback by hand, with its own pages, grants and rings, one method for each
 * step. Nothing is checked, so that a test can do one step wrong.
 *
 *   FakeGuest ── GrantTable, EventChannels (the real ones) ── Netback ── FakeSurroundings
 *      queue(i).tx, .rx, control: FrontRing, the guest's half of a ring
 *
 * A write of the guest to a ring page reaches its own page and the device's window at once.
 * `batchEnd` then stands for the batch that carried the writes.
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
import { EXTRA_FLAG_MORE, ExtraType, extra } from "../../shared/xen/extra.ts";
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
  /** Size in the request; defaults to the length of `bytes`. */
  readonly size?: number;
  /** Reference in the request; defaults to a new page. */
  readonly gref?: number;
}

export interface SendOptions {
  readonly queue?: number;
  readonly flags?: number;
  /** Writers of extra info slots, in order; `more` is 1 when another slot follows. */
  readonly extras?: readonly ((view: DataView, at: number, more: number) => void)[];
  /** False: the device has to read the bytes. */
  readonly push?: boolean;
  /** Size of the packet in the first request; defaults to the sum of the pieces. */
  readonly total?: number;
}

const DEFAULTS = {
  queues: 1,
  split: true,
  control: false,
  /** First value of the ring indexes. */
  start: 0,
  maxFrameBytes: 9234,
  rxNotify: true,
  sg: true,
  gsoTcpv4: true,
  gsoTcpv6: true,
  noCsumOffload: false,
  ipv6CsumOffload: true,
  multicastControl: false,
};
export type GuestOptions = Readonly<Partial<typeof DEFAULTS>>;

export class FakeGuest {
  readonly memory = new FakeGuestMemory();
  readonly host = new FakeSurroundings(this.memory, { name: "vif1.0", queues: 8 });
  readonly #entries = new GuestGrants({ domid: GUEST }, () => {
    this.memory.posted.push({ kind: "use" });
  });
  readonly grants = this.#entries.table;
  readonly events = new EventChannels({ now: this.host.clock.now });
  readonly netback: Netback;
  /** Codes of fatal errors. */
  readonly fatals: string[] = [];
  /** Called by `fatal`. */
  onFatal: (() => void) | undefined;
  queues: GuestQueue[] = [];
  control: { readonly ring: FrontRing; readonly port: number } | undefined;
  readonly #options: typeof DEFAULTS;
  #nextFrame = FIRST_FRAME;
  #nextRef = GNTTAB_NR_RESERVED_ENTRIES;
  readonly #freeRefs: number[] = [];
  #nextId = 0;

  constructor(options: GuestOptions = {}) {
    this.#options = { ...DEFAULTS, ...options };
    const { maxFrameBytes } = this.#options;
    const { host, grants, events, memory, fatals } = this;
    events.attach(GUEST, (port) => memory.posted.push({ kind: "event", port }));
    const fatal = (code: string) => {
      fatals.push(code);
      this.onFatal?.();
    };
    this.netback = new Netback({ host, grants, events, domid: GUEST, maxFrameBytes, fatal });
    // Most tests are not about what waits: the deadline is now.
    host.onLazy = () => {
      this.netback.beforeFlush();
      host.flushes++;
    };
  }

  /** A guest whose interface is connected. */
  static connected(options: GuestOptions = {}): FakeGuest {
    const guest = new FakeGuest(options);
    const error = guest.connect();
    if (error !== undefined) throw new Error(error);
    return guest;
  }

  /** Makes new rings and ports and connects. Returns the error text of `connect`. */
  connect(): string | undefined {
    const { queues, split, control } = this.#options;
    this.queues = Array.from({ length: queues }, () => {
      const txPort = this.#newPort();
      return {
        tx: this.#ring(TX_SLOT_SIZE),
        rx: this.#ring(RX_SLOT_SIZE),
        txPort,
        rxPort: split ? this.#newPort() : txPort,
        posted: [],
      };
    });
    if (control) this.control = { ring: this.#ring(CTRL_SLOT_SIZE), port: this.#newPort() };
    return this.netback.connect(this.config());
  }

  #ring(slotBytes: number): FrontRing {
    const frame = this.newFrame();
    const page = this.memory.page(frame);
    this.memory.addWindow(frame);
    const copy = (at: number, length: number): void => {
      const window = this.memory.window(frame * PAGE, PAGE)!;
      window.bytes.set(page.subarray(at, at + length), at);
    };
    const place = { reference: this.grant(frame), frame, page };
    return new FrontRing(place, slotBytes, copy, this.#options.start);
  }

  config(): NetbackConfig {
    const { control, ...features } = this.#options;
    const { ring, port } = this.control ?? {};
    return {
      ...features,
      queues: this.queues.map(({ tx, rx, txPort, rxPort }) => ({
        txRingRef: tx.reference,
        rxRingRef: rx.reference,
        txPort,
        rxPort,
      })),
      ...(control && { control: { ringRef: ring!.reference, port: port! } }),
    };
  }

  queue(i = 0): GuestQueue {
    return this.queues[i]!;
  }

  // Pages, grants, ports.

  newFrame(): number {
    return this.#nextFrame++;
  }

  #newPort(): number {
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

  /** Ends access. Returns false while the device's use counts say that the entry is in use. */
  end(reference: number): boolean {
    if ((this.#entries.readers.get(reference) ?? 0) > 0) return false;
    this.#entries.end(reference);
    this.memory.entries.delete(reference);
    this.#freeRefs.push(reference);
    return true;
  }

  /** References in use, by the use counts sent to the guest. */
  get inUse(): number[] {
    return [...this.#entries.readers].filter(([, n]) => n !== 0).map(([reference]) => reference);
  }

  /** Grants a page that holds these bytes at `offset`. Returns the reference. */
  buffer(bytes: Uint8Array, offset = 0, options = { readonly: true }): number {
    const frame = this.newFrame();
    this.memory.page(frame).set(bytes, offset);
    return this.grant(frame, options);
  }

  // Transmit.

  /** Puts one packet into the ring, unpublished. */
  post(pieces: readonly Piece[], options: SendOptions = {}) {
    const { flags = 0, extras = [], push = true } = options;
    const { tx } = this.queue(options.queue);
    const ids: number[] = [];
    const grefs: number[] = [];
    const sizeOf = ({ size, bytes }: Piece): number => size ?? bytes.length;
    const total = options.total ?? pieces.reduce((sum, piece) => sum + sizeOf(piece), 0);
    pieces.forEach((piece, i) => {
      const { bytes, offset = 0, gref = this.buffer(bytes, offset) } = piece;
      const id = this.#nextId++ & 0xffff;
      ids.push(id);
      grefs.push(gref);
      if (push && bytes.length > 0 && this.memory.entries.has(gref)) {
        this.memory.push(gref * PAGE + offset, bytes.length);
      }
      const more = i < pieces.length - 1 ? TxFlag.MORE_DATA : 0;
      const all = i > 0 ? more : more | flags | (extras.length > 0 ? TxFlag.EXTRA_INFO : 0);
      const size = i === 0 ? total : sizeOf(piece);
      tx.request((view, at) => txRequest.write(view, at, grantRef(gref), offset, all, id, size));
      if (i > 0) return;
      extras.forEach((write, n) => {
        tx.request((view, at) => write(view, at, n < extras.length - 1 ? 1 : 0));
      });
    });
    return { ids, grefs };
  }

  /** Publishes the posted requests, notifies when asked for, and ends the batch. */
  #show(ring: FrontRing, port: number): void {
    if (ring.publish()) this.notify(port);
    this.netback.batchEnd();
  }

  kick(i = 0): void {
    this.#show(this.queue(i).tx, this.queue(i).txPort);
  }

  /** Posts and publishes one packet. */
  send(pieces: readonly Piece[], options: SendOptions = {}) {
    const sent = this.post(pieces, options);
    this.kick(options.queue);
    return sent;
  }

  notify(port: number): void {
    this.events.send(GUEST, port);
  }

  /** Responses since the last call; `rest` is the slot's eight unused bytes. */
  sent(i = 0) {
    return this.queue(i).tx.take((view, at) => ({
      id: txResponse.id(view, at),
      status: txResponse.status(view, at),
      rest: new Uint8Array(view.buffer).slice(at + 4, at + TX_SLOT_SIZE),
    }));
  }

  // Receive.

  /** Posts `count` empty pages, publishes them, and ends the batch. */
  postRx(count: number, i = 0, gref?: number): void {
    const { rx, rxPort, posted } = this.queue(i);
    for (let n = 0; n < count; n++) {
      const reference = gref ?? this.grant(this.newFrame());
      const slot = rx.reqProdPvt & (rx.size - 1);
      posted[slot] = reference;
      rx.request((view, at) => rxRequest.write(view, at, slot, grantRef(reference)));
    }
    this.#show(rx, rxPort);
  }

  /** Packets received since the last call. Ends their grants. */
  received(i = 0) {
    const queue = this.queue(i);
    const packets = [];
    while (queue.rx.waiting > 0) packets.push(this.#receive(queue));
    return packets;
  }

  #receive({ rx, posted }: GuestQueue) {
    const { view, rspCons: before } = rx;
    const parts: Uint8Array[] = [];
    const statuses: number[] = [];
    let gso: { size: number; type: number } | undefined;
    let hash: { type: number; algorithm: number; value: number } | undefined;
    let first = -1;
    let more = true;
    let extras = false;
    while (more || extras) {
      const reference = posted[rx.rspCons & (rx.size - 1)]!;
      const entry = this.memory.entries.get(reference);
      const at = rx.response();
      if (extras) {
        extras = (extra.flags(view, at) & EXTRA_FLAG_MORE) !== 0;
        const [type, algorithm] = [extra.hashType(view, at), extra.hashAlgorithm(view, at)];
        const isGso = extra.type(view, at) === ExtraType.GSO;
        if (isGso) gso = { size: extra.gsoSize(view, at), type: extra.gsoType(view, at) };
        else hash = { type, algorithm, value: extra.hashValue(view, at) };
      } else {
        const flags = rxResponse.flags(view, at);
        const status = rxResponse.status(view, at);
        if (first < 0) first = flags;
        statuses.push(status);
        if (status > 0) {
          const offset = rxResponse.offset(view, at);
          parts.push(this.memory.page(entry!.frame).slice(offset, offset + status));
        }
        more = (flags & RxFlag.MORE_DATA) !== 0;
        extras = (flags & RxFlag.EXTRA_INFO) !== 0;
      }
      if (entry !== undefined) this.end(reference);
    }
    const bytes = Uint8Array.from(Buffer.concat(parts));
    return { bytes, flags: first, statuses, slots: distance(before, rx.rspCons), gso, hash };
  }

  // Control ring.

  /** Posts and publishes one control request. */
  ask(request: Partial<CtrlRequest>): void {
    const { ring, port } = this.control!;
    ring.request((view, at) => ctrlRequest.write(view, at, request));
    this.#show(ring, port);
  }

  /** Control responses since the last call. */
  answers() {
    return this.control!.ring.take((view, at) => ctrlResponse.parse(view, at));
  }

  /** Everything sent to the guest since the last call. */
  takePosted() {
    return this.memory.posted.splice(0);
  }
}
