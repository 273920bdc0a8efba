/** The front half of a shared ring for a guest driven by hand. Nothing is checked. */
import { viewOf } from "../../shared/bytes/words.ts";
import { advance, distance, type Index32, index32 } from "../../shared/ring/index32.ts";
import { GRANT_PAGE_BYTES } from "../../shared/xen/grant.ts";
import { RingWord, ringSlots, slotOffset, sring } from "../../shared/xen/ring.ts";

export class FrontRing {
  readonly reference: number;
  readonly frame: number;
  readonly size: number;
  readonly slotBytes: number;
  /** The guest's own page. */
  readonly page: Uint8Array;
  readonly view: DataView;
  reqProdPvt = index32(0);
  rspCons = index32(0);
  /** Copies bytes of the page to the device, after the guest has written them. */
  readonly copy: (at: number, length: number) => void;

  /** Makes an empty ring in a page that the device knows as coherent memory. */
  constructor(
    { reference, frame, page }: { reference: number; frame: number; page: Uint8Array },
    slotBytes: number,
    copy: (at: number, length: number) => void,
    start = 0,
  ) {
    this.reference = reference;
    this.frame = frame;
    this.page = page;
    this.view = viewOf(page);
    this.slotBytes = slotBytes;
    this.size = ringSlots(slotBytes);
    this.copy = copy;
    this.renew(start);
  }

  /** Empties the ring; all indexes begin at `start`. */
  renew(start = 0): void {
    this.reqProdPvt = this.rspCons = index32(start);
    sring.init(this.view, 0);
    for (const word of [RingWord.REQ_PROD, RingWord.RSP_PROD]) {
      sring.setWord(this.view, 0, word, this.rspCons);
    }
    for (const word of [RingWord.REQ_EVENT, RingWord.RSP_EVENT]) {
      sring.setWord(this.view, 0, word, advance(this.rspCons, 1));
    }
    this.copy(0, GRANT_PAGE_BYTES);
  }

  /** Offset of the slot that an index names. */
  at(index: Index32): number {
    return slotOffset(index, this.slotBytes, this.size);
  }

  /** Fills the next request slot by `write`, unpublished. Returns its index. */
  request(write: (view: DataView, at: number) => void): Index32 {
    const index = this.reqProdPvt;
    write(this.view, this.at(index));
    this.copy(this.at(index), this.slotBytes);
    this.reqProdPvt = advance(index, 1);
    return index;
  }

  /** Publishes the requests (req_prod). Returns whether the backend asked for a notification. */
  publish(index: number = this.reqProdPvt): boolean {
    const before = sring.reqProd(this.view, 0);
    const after = index32(index);
    sring.setWord(this.view, 0, RingWord.REQ_PROD, after);
    this.copy(RingWord.REQ_PROD, 4);
    const event = sring.reqEvent(this.view, 0);
    return distance(event, after) < distance(before, after);
  }

  /** Asks for a notification at the next response. */
  arm(event: Index32 = advance(this.rspCons, 1)): void {
    sring.setWord(this.view, 0, RingWord.RSP_EVENT, event);
    this.copy(RingWord.RSP_EVENT, 4);
  }

  /** Responses that are published and not consumed. */
  get waiting(): number {
    return distance(this.rspCons, this.rspProd);
  }

  /** Requests that are published and have no response. */
  get unanswered(): number {
    return distance(this.rspProd, sring.reqProd(this.view, 0));
  }

  get rspProd(): Index32 {
    return sring.rspProd(this.view, 0);
  }

  get reqEvent(): number {
    return sring.reqEvent(this.view, 0);
  }

  /** Consumes the next response and returns its offset. */
  response(): number {
    const at = this.at(this.rspCons);
    this.rspCons = advance(this.rspCons, 1);
    return at;
  }

  /** Consumes all waiting responses, each parsed by `read`. */
  take<T>(read: (view: DataView, at: number) => T): T[] {
    const taken: T[] = [];
    while (this.waiting > 0) taken.push(read(this.view, this.response()));
    return taken;
  }
}
