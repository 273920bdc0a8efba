/**
 * The back half of a shared ring, over a granted page.
 *
 *   the guest's page             this process
 *   req_prod  ── window ──►      reqCons      requests taken
 *   req_event ◄─ write ───       rspProdPvt   responses written into our copy of the page
 *   rsp_prod  ◄─ write ───       #published   responses that the guest was shown
 *   rsp_event ── window ──►
 *
 * Both ends have a copy of the page. A change by the guest arrives here as a write to the window. A
 * change by netback goes into the copy here and, by grant, into the guest's copy: the slots first,
 * then the index. Every index is read from the page once, then checked.
 *
 * Invariant: 0 <= distance(rspProdPvt, reqCons) <= size, and a response is only written to a slot
 * whose request was taken.
 *
 * Source: xen: xen/include/public/io/ring.h.
 */
import type { QueueId } from "../../../shared/net/frame.ts";
import {
  advance,
  distance,
  type Index32,
  needNotify,
  requestProdOverflow,
  slotOf,
  unconsumedRequests,
} from "../../../shared/ring/index32.ts";
import type { XenRingStatus } from "../../../shared/status/device-status.ts";
import type { XenRing, XenRingKind } from "../../../shared/wire/link-state.ts";
import { busAddress, RecordType, Space } from "../../../shared/wire/records.ts";
import { Gntst, GRANT_PAGE_BYTES, type GrantRef, grantAddress } from "../../../shared/xen/grant.ts";
import {
  RING_HEADER_SIZE,
  RingWord,
  ringSlots,
  slotOffset,
  sring,
} from "../../../shared/xen/ring.ts";
import { BACKEND_DOMID } from "../../../shared/xen/xenbus.ts";
import type { HostMemory, Window } from "../../dma/host-memory.ts";
import type { Mirror } from "../../dma/mirror-check.ts";
import type { GrantTable, Mapping } from "../grant-table.ts";
import { type NetbackContext, VifKeyError } from "./config.ts";

/** Result of `look` for a producer index that no correct frontend writes. */
export const OVERRUN = -1;
const WORD_BYTES = 4;

export class BackRing {
  readonly reference: GrantRef;
  /** Number of slots, a power of two. */
  readonly size: number;
  readonly view: DataView;
  readonly #memory: HostMemory;
  readonly #grants: GrantTable;
  readonly #mapping: Mapping;
  readonly #slotBytes: number;
  readonly #responseType: RecordType;
  readonly #window: Window;
  /** Offset of the page's first byte in the window. */
  readonly #base: number;
  #reqCons: Index32;
  #rspProdPvt: Index32;
  #published: Index32;
  /** The req_event that the guest knows; undefined before the first. */
  #told: Index32 | undefined;
  /** True when something was posted since `takePosted`. */
  #posted = false;

  /** Maps the page. Throws VifKeyError, which names `key`, when the page can't be a ring. */
  constructor(
    { grants, host }: NetbackContext,
    key: string,
    reference: GrantRef,
    slotBytes: number,
    responseType: RecordType,
  ) {
    const mapping = grants.map(reference, true, BACKEND_DOMID);
    if (typeof mapping === "number") {
      throw new VifKeyError(key, `reference ${reference} can't be mapped (GNTST ${mapping})`);
    }
    const refuse = (problem: string): never => {
      grants.unmap(mapping);
      throw new VifKeyError(key, `reference ${reference} ${problem}`);
    };
    const address = busAddress(mapping.frame * GRANT_PAGE_BYTES);
    const window =
      host.memory.window(address, GRANT_PAGE_BYTES) ??
      refuse("names a page that is no coherent memory");
    this.reference = reference;
    this.size = ringSlots(slotBytes);
    this.view = window.view;
    this.#memory = host.memory;
    this.#grants = grants;
    this.#mapping = mapping;
    this.#window = window;
    this.#base = address - window.address;
    this.#slotBytes = slotBytes;
    this.#responseType = responseType;
    const start = sring.rspProd(this.view, this.#base);
    if (requestProdOverflow(this.size, this.reqProd, start)) {
      refuse("names a ring with more requests than slots");
    }
    this.#reqCons = start;
    this.#rspProdPvt = start;
    this.#published = start;
  }

  /** Number of requests that are not yet taken and can be answered, or OVERRUN. */
  look(): number {
    const reqProd = sring.reqProd(this.view, this.#base);
    if (requestProdOverflow(this.size, reqProd, this.#rspProdPvt)) return OVERRUN;
    return unconsumedRequests(this.size, reqProd, this.#reqCons, this.#rspProdPvt);
  }

  /** req_prod as it is in the page, unchecked. Use it only to see whether it has moved. */
  get reqProd(): Index32 {
    return sring.reqProd(this.view, this.#base);
  }

  /** Offset in `view` of the request that is `ahead` slots behind the next one. */
  at(ahead: number): number {
    return this.#at(advance(this.#reqCons, ahead));
  }

  /** Marks the next `count` requests as taken. */
  consume(count: number): void {
    this.#reqCons = advance(this.#reqCons, count);
  }

  /** Offset in `view` of the slot for the next response. The caller fills the whole slot. */
  respond(): number {
    const index = this.#rspProdPvt;
    if (index === this.#reqCons) throw new Error(`ring ${this.reference}: no request to answer`);
    this.#rspProdPvt = advance(index, 1);
    return this.#at(index);
  }

  /** Number of responses that the guest was not shown yet. */
  get staged(): number {
    return distance(this.#published, this.#rspProdPvt);
  }

  /** Number of slots that the guest can't use again yet, by its own unchecked index. */
  get occupied(): number {
    return distance(this.#published, this.reqProd);
  }

  /**
   * RING_PUSH_RESPONSES_AND_CHECK_NOTIFY: publishes the responses written since the last call.
   * Returns true when the guest asked for an event.
   */
  publish(): boolean {
    const before = this.#published;
    const after = this.#rspProdPvt;
    const count = distance(before, after);
    if (count === 0) return false;
    const first = slotOf(before, this.size);
    const run = Math.min(count, this.size - first);
    const at = RING_HEADER_SIZE + first * this.#slotBytes;
    this.#write(at, this.#responseType, run * this.#slotBytes);
    if (run < count) {
      this.#write(RING_HEADER_SIZE, this.#responseType, (count - run) * this.#slotBytes);
    }
    this.#writeWord(RingWord.RSP_PROD, after);
    this.#published = after;
    return needNotify(before, after, sring.rspEvent(this.view, this.#base));
  }

  /**
   * The second half of RING_FINAL_CHECK_FOR_REQUESTS: asks for an event once `count` more requests
   * are posted. Requests that cross with this word on the link bring no event. netback sees them
   * when the batch that carries them has been applied.
   */
  arm(count: number): void {
    const event = advance(this.#reqCons, count);
    if (event === this.#told) return;
    this.#told = event;
    this.#writeWord(RingWord.REQ_EVENT, event);
  }

  /** Whether anything was posted to the guest since the last `takePosted`. */
  get posted(): boolean {
    return this.#posted;
  }

  takePosted(): boolean {
    const posted = this.#posted;
    this.#posted = false;
    return posted;
  }

  /** Whether any byte of [address, address + length) belongs to the page's window. */
  touches(address: number, length: number): boolean {
    const start = this.#window.address + this.#base;
    return address < start + GRANT_PAGE_BYTES && start < address + length;
  }

  /** Ends the mapping. Nothing may be called after. */
  close(): void {
    const status = this.#grants.unmap(this.#mapping);
    // When the guest has died, its mappings are gone already.
    if (status !== Gntst.OKAY && status !== Gntst.BAD_HANDLE) {
      throw new Error(`unmapping ring ${this.reference}: GNTST ${status}`);
    }
  }

  /** Our copy of the page. */
  get #page(): Uint8Array {
    return this.#window.bytes.subarray(this.#base, this.#base + GRANT_PAGE_BYTES);
  }

  /** Our copy of the page, and where a read finds the guest's. */
  mirror(): Mirror {
    return {
      space: Space.GRANT,
      address: grantAddress(this.reference, 0),
      bytes: this.#page,
    };
  }

  state(ring: XenRingKind, queue: QueueId, port: number): XenRing {
    const address = this.#window.address + this.#base;
    return { ring, queue, port, reference: this.reference, address, page: this.#page };
  }

  snapshot(): XenRingStatus {
    const at = this.#base;
    const reqProd = sring.reqProd(this.view, at);
    return {
      reference: this.reference,
      size: this.size,
      // Slots into which the guest may write requests.
      free: Math.max(0, this.size - distance(this.#published, reqProd)),
      reqProd,
      reqCons: this.#reqCons,
      reqEvent: sring.reqEvent(this.view, at),
      rspProd: this.#published,
      rspProdPvt: this.#rspProdPvt,
      rspEvent: sring.rspEvent(this.view, at),
    };
  }

  #at(index: Index32): number {
    return this.#base + slotOffset(index, this.#slotBytes, this.size);
  }

  #writeWord(word: RingWord, index: Index32): void {
    this.#posted = true;
    sring.setWord(this.view, this.#base, word, index);
    this.#write(word, RecordType.XEN_RING_INDEX, WORD_BYTES);
  }

  /** Sends bytes of our copy to the guest's. */
  #write(offset: number, type: RecordType, length: number): void {
    // When the guest took the page back, its reference may grant another page.
    if (!this.#grants.reaches(this.#mapping)) return;
    const address = grantAddress(this.reference, offset);
    const at = this.#base + offset;
    this.#memory.write(Space.GRANT, address, type, this.#window.bytes, at, length);
  }
}
