/**
 * The front half of a shared ring: a coherent page, its grant, and the two private indexes of this
 * end.
 *
 *   page (window, granted read-write)          here
 *     req_prod   ours   requests published       reqProdPvt   requests written
 *     req_event  theirs                          rspCons      responses taken
 *     rsp_prod   theirs, checked before use
 *     rsp_event  ours   wake us past here
 *     slots      ours until published, then theirs until answered
 *
 * Invariant: 0 <= distance(rspCons, reqProdPvt) <= size.
 *
 * Source: xen: xen/include/public/io/ring.h; freebsd-src: sys/xen/xenbus/xenbus_client.c
 * (xenbus_grant_ring).
 */

import type { QueueId } from "../../shared/net/frame.ts";
import {
  advance,
  distance,
  freeRequests,
  type Index32,
  index32,
  needNotify,
  slotOf,
} from "../../shared/ring/index32.ts";
import type { XenRing, XenRingKind } from "../../shared/wire/link-state.ts";
import { RecordType } from "../../shared/wire/records.ts";
import type { GrantRef } from "../../shared/xen/grant.ts";
import {
  RING_HEADER_SIZE,
  RING_PAGE_BYTES,
  RingWord,
  ringSlots,
  slotOffset,
  sring,
} from "../../shared/xen/ring.ts";
import type { CoherentMemory } from "../bus/coherent.ts";
import type { DmaSpace } from "../bus/space.ts";
import type { GrantTable } from "./grant-table.ts";

export class FrontRing {
  readonly memory: CoherentMemory;
  readonly view: DataView;
  /** Grant reference of the page, for xenstore. */
  readonly reference: GrantRef;
  readonly size: number;
  readonly #grants: GrantTable;
  readonly #slotBytes: number;
  readonly #slotType: RecordType;
  reqProdPvt: Index32;
  rspCons: Index32;
  /** The shared words as this end wrote them last. */
  #reqProd: Index32;
  #rspEvent: Index32;
  /** True while #rspEvent is not posted yet. */
  #isEventDue = false;
  #ended = false;

  /**
   * Allocates a page and grants it to `domid`. Throws BusSpaceExhausted, or Shortage when no
   * reference is left. `start` is the first value of the indexes: tests start near the wrap.
   */
  constructor(
    space: DmaSpace,
    grants: GrantTable,
    domid: number,
    name: string,
    slotBytes: number,
    slotType: RecordType,
    start: Index32 = index32(0),
  ) {
    this.#grants = grants;
    this.#slotBytes = slotBytes;
    this.#slotType = slotType;
    this.size = ringSlots(slotBytes);
    this.reqProdPvt = start;
    this.rspCons = start;
    this.#reqProd = start;
    this.#rspEvent = advance(start, 1);
    this.reference = grants.allocGrantReference();
    if (this.reference < 0) throw new Shortage(`${name}: no grant reference is free`);
    try {
      this.memory = space.allocCoherent(RING_PAGE_BYTES, RING_PAGE_BYTES, name);
    } catch (error) {
      grants.freeGrantReference(this.reference);
      throw error;
    }
    this.view = this.memory.view;
    sring.init(this.view, 0);
    sring.setWord(this.view, 0, RingWord.REQ_PROD, start);
    sring.setWord(this.view, 0, RingWord.REQ_EVENT, advance(start, 1));
    sring.setWord(this.view, 0, RingWord.RSP_PROD, start);
    sring.setWord(this.view, 0, RingWord.RSP_EVENT, this.#rspEvent);
    this.memory.publish(0, RING_HEADER_SIZE, RecordType.XEN_RING_PAGE);
    grants.grantForeignAccessRef(this.reference, domid, this.memory.address, false);
  }

  state(ring: XenRingKind, queue: QueueId, port: number): XenRing {
    const { reference, memory } = this;
    return { ring, queue, port, reference, address: memory.address, page: memory.bytes };
  }

  /** RING_FREE_REQUESTS */
  get freeRequests(): number {
    return freeRequests(this.size, this.reqProdPvt, this.rspCons);
  }

  /** Number of requests published and not answered. */
  get inFlight(): number {
    return distance(this.rspCons, this.#reqProd);
  }

  /** Number of requests written, published or not, and not answered. */
  get claimed(): number {
    return distance(this.rspCons, this.reqProdPvt);
  }

  /** True if the backend has asked for an event with one of the unpublished requests. */
  get isAwaited(): boolean {
    return needNotify(this.#reqProd, this.reqProdPvt, sring.reqEvent(this.view, 0));
  }

  get unpublished(): number {
    return distance(this.#reqProd, this.reqProdPvt);
  }

  /** Returns the byte offset in `view` of the slot of an index. */
  at(index: Index32): number {
    return slotOffset(index, this.#slotBytes, this.size);
  }

  /** Returns the slot number of an index. */
  slot(index: Index32): number {
    return slotOf(index, this.size);
  }

  /** Returns the index of the next request slot, which the caller then writes. */
  claim(): Index32 {
    const index = this.reqProdPvt;
    this.reqProdPvt = advance(index, 1);
    return index;
  }

  /**
   * RING_PUSH_REQUESTS_AND_CHECK_NOTIFY: publishes the requests, then the index. Returns true when
   * the backend asked for an event. The grants that the requests name must be posted before.
   */
  publish(): boolean {
    const before = this.#reqProd;
    const after = this.reqProdPvt;
    const count = distance(before, after);
    if (count === 0) return false;
    const first = this.slot(before);
    const run = Math.min(count, this.size - first);
    this.memory.publish(this.at(before), run * this.#slotBytes, this.#slotType);
    if (run < count) {
      const rest = (count - run) * this.#slotBytes;
      this.memory.publish(RING_HEADER_SIZE, rest, this.#slotType);
    }
    this.#reqProd = after;
    sring.setWord(this.view, 0, RingWord.REQ_PROD, after);
    this.memory.publish(RingWord.REQ_PROD, 4, RecordType.XEN_RING_INDEX);
    return needNotify(before, after, sring.reqEvent(this.view, 0));
  }

  /**
   * Returns the number of unconsumed responses, or -1 when the value of rsp_prod is impossible.
   * Each call reads the word once.
   */
  unconsumed(): number {
    const n = distance(this.rspCons, sring.rspProd(this.view, 0));
    return n > distance(this.rspCons, this.#reqProd) ? -1 : n;
  }

  /** Asks the backend for an event with the response at `index`. `postEvent` posts the question. */
  arm(index: Index32): void {
    if (this.#rspEvent === index) return;
    this.#rspEvent = index;
    sring.setWord(this.view, 0, RingWord.RSP_EVENT, index);
    this.#isEventDue = true;
  }

  postEvent(): void {
    if (!this.#isEventDue) return;
    this.#isEventDue = false;
    this.memory.publish(RingWord.RSP_EVENT, 4, RecordType.XEN_RING_INDEX);
  }

  /**
   * Ends the backend's access and frees the page, at once or when the backend's use of it ends. A
   * second call has no effect.
   */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    const { memory, reference } = this;
    if (this.#grants.endForeignAccessRef(reference)) {
      this.#grants.freeGrantReference(reference);
      memory.free();
    } else {
      this.#grants.quarantine(reference, () => memory.free());
    }
  }
}

/** Error: no grant reference, or no bus space for another map, is left. */
export class Shortage extends Error {
  constructor(message: string) {
    super(message);
    this.name = "Shortage";
  }
}
