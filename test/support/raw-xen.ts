/**
 * A Xen guest driven by hand over a real link, with its own pages, grants, rings and keys. It
 * enforces no rules. Each step is public, so that a test can do one of them wrong.
 *
 *   page of reference r     at bus address r * 4096, so that a frame has its reference's number
 *   ring pages              windows; the device writes to them, and to all else, by reference
 *
 * Device writes change `pages` when the guest has granted the reference; others are recorded in
 * `strays`.
 */

import type { Struct } from "../../shared/bytes/struct.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { index32 } from "../../shared/ring/index32.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { Space } from "../../shared/wire/records.ts";
import { EvtchnOp, evtchnAllocUnbound } from "../../shared/xen/event-channel.ts";
import { GRANT_PAGE_BYTES, GrantFlag, GrantType, grantRef } from "../../shared/xen/grant.ts";
import { Domid, Hypercall } from "../../shared/xen/hypercall.ts";
import {
  NetifStatus,
  RX_SLOT_SIZE,
  rxRequest,
  TX_SLOT_SIZE,
  txRequest,
  txResponse,
} from "../../shared/xen/netif.ts";
import { XenbusState } from "../../shared/xen/xenbus.ts";
import { parseXsMessage, parseXsStrings, XsType, xsMessage } from "../../shared/xen/xenstore.ts";
import { structBytes } from "./ena-guest.ts";
import { FrontRing } from "./fake-front-ring.ts";
import { endRecords, grantRecords } from "./guest-grants.ts";
import { eventually } from "./process.ts";
import { column, RawFrontend } from "./raw-frontend.ts";
import { said, XsVerbs } from "./store-guest.ts";

const S = XenbusState;
export const VIF = "device/vif/0";
const BACKEND = 0;
/** References of the rings, and the first reference for packets. */
export const TX_RING = 8;
export const RX_RING = 9;
export const FREE_REFERENCE = 16;
const PROBE = 15;
/** Answers kept that nobody has read. */
const KEEP_ANSWERS = 10_000;

export class RawXen extends XsVerbs<Promise<string>> {
  readonly raw: RawFrontend;
  readonly pages = new Map<number, Uint8Array>();
  /** Device writes to pages that were not granted. */
  readonly strays: { reference: number; offset: number; length: number }[] = [];
  /** Watch events, oldest first. */
  readonly events: { readonly path: string; readonly token: string }[] = [];
  readonly #answers = new Map<number, string>();
  domid = 0;
  port = 0;
  tx!: FrontRing;
  rx!: FrontRing;
  #reqId = 0;
  #tag = 0;

  constructor(raw: RawFrontend) {
    super();
    this.raw = raw;
    raw.onWrite = (address, bytes) => {
      const reference = Math.floor(address / GRANT_PAGE_BYTES);
      const offset = address % GRANT_PAGE_BYTES;
      const page = this.pages.get(reference);
      if (page === undefined) this.strays.push({ reference, offset, length: bytes.length });
      else page.set(bytes, offset);
    };
    raw.onXenstore = (bytes) => this.#heard(bytes);
    raw.onRead = (address, length) => {
      const page = this.pages.get(Math.floor(address / GRANT_PAGE_BYTES));
      const at = address % GRANT_PAGE_BYTES;
      return page === undefined ? "refuse" : page.subarray(at, at + length);
    };
  }

  /** A guest that has said hello and knows its domain id. */
  static async start(port: number, name: string, hello = {}, token?: string): Promise<RawXen> {
    const more = { personality: "xen", ...hello };
    const guest = new RawXen(await RawFrontend.join(port, name, more, token));
    guest.domid = Number(await guest.read("domid"));
    return guest;
  }

  /** Like `start`, with a connected vif of one queue. */
  static async connected(port: number, name: string): Promise<RawXen> {
    const guest = await RawXen.start(port, name);
    await guest.connect();
    return guest;
  }

  // Xenstore.

  /** Posts a request and returns its number. */
  ask(type: number, payload: Uint8Array, tx = 0): number {
    const id = ++this.#reqId;
    this.raw.batch([Op.XENSTORE, Buffer.from(xsMessage(type as XsType, id, tx, payload))]);
    return id;
  }

  /**
   * Waits for the answer to request `id`, removes it, and returns its text; for an error, its name.
   */
  async answer(id: number): Promise<string> {
    await this.raw.until(`the answer to xenstore request ${id}`, () => this.#answers.has(id));
    const answer = this.#answers.get(id)!;
    this.#answers.delete(id);
    return answer;
  }

  send(type: number, payload: Uint8Array, tx = 0): Promise<string> {
    return this.answer(this.ask(type, payload, tx));
  }

  #heard(bytes: Uint8Array): void {
    const message = parseXsMessage(bytes)!;
    if (message.type === XsType.WATCH_EVENT) {
      const [path = "", token = ""] = parseXsStrings(message.payload)!;
      this.events.push({ path, token });
    } else if (this.#answers.size < KEEP_ANSWERS) this.#answers.set(message.reqId, said(message));
  }

  // Hypercalls, events, grants.

  /** Posts a call and returns its tag. */
  call(number: number, command: number, bytes: Uint8Array): number {
    const tag = ++this.#tag;
    this.raw.batch([Op.HYPERCALL, tag, number, command, Buffer.from(bytes)]);
    return tag;
  }

  /** Waits for the hypervisor's reply. */
  async reply(tag: number) {
    const told = await this.raw.until(
      `the reply to hypercall ${tag}`,
      ([what, t]) => what === "hypercallReply" && t === tag,
    );
    return { errno: told[2] as number, bytes: Uint8Array.from(told[3] as number[]) };
  }

  /** Resolves to true when everything sent is applied, to false when the connection ended. */
  async survived(): Promise<boolean> {
    const tag = this.call(0, 0, new Uint8Array(0));
    try {
      await this.reply(tag);
      return true;
    } catch (error) {
      if (this.raw.open) throw error;
      return false;
    }
  }

  /** Posts a call on event channels and returns its tag. */
  evtchn<T>(op: EvtchnOp, layout: Struct<T>, fields: Partial<T>): number {
    return this.call(Hypercall.EVENT_CHANNEL_OP, op, structBytes(layout, fields));
  }

  /** Allocates a port for the backend to bind. Returns the port or the negated errno. */
  async allocUnbound(): Promise<number> {
    const fields = { dom: Domid.SELF, remoteDom: BACKEND };
    const tag = this.evtchn(EvtchnOp.ALLOC_UNBOUND, evtchnAllocUnbound, fields);
    const { errno, bytes } = await this.reply(tag);
    return errno === 0 ? evtchnAllocUnbound.parse(viewOf(bytes), 0).port : -errno;
  }

  notify(port = this.port): void {
    this.raw.batch([Op.EVENT, port]);
  }

  /** Grants a zeroed page whose frame number is the reference. Returns the page. */
  grant(reference: number, { readonly = false, domid = BACKEND } = {}): Uint8Array {
    const page = new Uint8Array(GRANT_PAGE_BYTES);
    this.pages.set(reference, page);
    const flags = GrantType.PERMIT_ACCESS | (readonly ? GrantFlag.READONLY : 0);
    this.raw.batch([Op.GRANT, 1, grantRecords([[reference, { flags, domid, frame: reference }]])]);
    return page;
  }

  end(...references: number[]): void {
    for (const reference of references) this.pages.delete(reference);
    this.raw.batch([Op.END_GRANT, endRecords(references)]);
  }

  // The vif.

  /** Waits for a state of the backend, by watch events or by reading the key. */
  async until(state: number): Promise<void> {
    const path = `${await this.read(`${VIF}/backend`)}/state`;
    let seen = "";
    await eventually(
      () => `the backend in state ${state}; it is in ${seen}`,
      async () => {
        seen = await this.read(path);
        return seen === String(state) || undefined;
      },
      4000,
      20,
    );
  }

  /** Makes a ring page, with its window and its grant. */
  ring(reference: number, slotBytes: number): FrontRing {
    this.raw.batch([Op.WINDOW, reference * GRANT_PAGE_BYTES, GRANT_PAGE_BYTES]);
    const page = this.grant(reference);
    const copy = (at: number, length: number): void => {
      const address = reference * GRANT_PAGE_BYTES + at;
      this.raw.batch(column(Op.WRITE, [{ address, bytes: page.slice(at, at + length) }]));
    };
    return new FrontRing({ reference, frame: reference, page }, slotBytes, copy);
  }

  /** Goes from Initialising to Connected as an honest frontend does. */
  async connect(): Promise<void> {
    this.port = await this.allocUnbound();
    this.tx = this.ring(TX_RING, TX_SLOT_SIZE);
    this.rx = this.ring(RX_RING, RX_SLOT_SIZE);
    await this.handshake();
  }

  /** Closes the vif if it is open, and connects again with empty rings. */
  async reconnect(): Promise<void> {
    await this.write(`${VIF}/state`, String(S.CLOSED));
    await this.until(S.CLOSED);
    this.tx.renew();
    this.rx.renew();
    await this.handshake();
  }

  /** Sends a frame and waits for its successful response. */
  async works(): Promise<void> {
    const frame = new Uint8Array(60);
    frame.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 9, this.domid & 0xff, 0x88, 0xb6]);
    const status = await this.txStatus(this.sendFrame(PROBE, frame));
    if (status !== NetifStatus.OKAY) throw new Error(`an honest frame was answered ${status}`);
    this.end(PROBE);
  }

  async handshake(): Promise<void> {
    await this.offer(this.keys);
    await this.until(S.CONNECTED);
  }

  /** Writes these keys and goes from Initialising to Connected, without looking at the backend. */
  async offer(keys: Readonly<Record<string, string>>): Promise<void> {
    await this.write(`${VIF}/state`, String(S.INITIALISING));
    await this.until(S.INIT_WAIT);
    for (const [key, value] of Object.entries(keys)) await this.write(`${VIF}/${key}`, value);
    await this.write(`${VIF}/state`, String(S.CONNECTED));
  }

  /** The keys that an honest frontend writes. */
  get keys(): Readonly<Record<string, string>> {
    return {
      "tx-ring-ref": String(TX_RING),
      "rx-ring-ref": String(RX_RING),
      "event-channel": String(this.port),
      "request-rx-copy": "1",
      "feature-rx-notify": "1",
      "feature-sg": "1",
    };
  }

  /** Publishes one tx request without pushing bytes. Returns its index. */
  transmit(reference: number, size: number): number {
    const gref = grantRef(reference);
    const index = this.tx.request((v, at) => txRequest.write(v, at, gref, 0, 0, 0, size));
    this.tx.publish();
    return index;
  }

  /** Sends a frame from the granted page of `reference`, pushed. Returns the request's index. */
  sendFrame(reference: number, frame: Uint8Array): number {
    this.grant(reference, { readonly: true }).set(frame);
    const address = reference * GRANT_PAGE_BYTES;
    this.raw.batch(column(Op.PUSH, [{ address, bytes: frame, space: Space.GRANT }]));
    return this.transmit(reference, frame.length);
  }

  /** Publishes one page for receiving. Returns the request's index. */
  post(reference: number): number {
    const index = this.rx.request((v, at) => rxRequest.write(v, at, 0, grantRef(reference)));
    this.rx.publish();
    return index;
  }

  /** Waits for the response to tx request `n` and returns its status. */
  async txStatus(n: number): Promise<number> {
    await this.raw.until(`the response to tx request ${n}`, () => this.tx.rspProd > n);
    return txResponse.status(this.tx.view, this.tx.at(index32(n)));
  }
}
