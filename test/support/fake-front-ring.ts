/** The front half of a shared ring, as a guest by hand drives it: nothing is checked. */
import { advance, distance, type Index32, index32 } from "../../shared/ring/index32.ts";
import { RingWord, ringSlots, slotOffset, sring } from "../../shared/xen/ring.ts";
import { type FakeGuestMemory, PAGE } from "./fake-guest-host.ts";

/** Whose ring it is. */
export interface RingOwner {
  readonly memory: FakeGuestMemory;
  newFrame(): number;
  /** Returns the reference. */
  grant(frame: number): number;
}

/** The guest's half of a shared ring. */
export class FrontRing {
  readonly reference: number;
  readonly frame: number;
  readonly size: number;
  readonly slotBytes: number;
  /** The guest's own page. */
  readonly view: DataView;
  reqProdPvt: Index32;
  rspCons: Index32;
  readonly #memory: FakeGuestMemory;

  constructor(guest: RingOwner, slotBytes: number, start = 0) {
    this.#memory = guest.memory;
    this.frame = guest.newFrame();
    const page = this.#memory.page(this.frame);
    this.view = new DataView(page.buffer);
    this.slotBytes = slotBytes;
    this.size = ringSlots(slotBytes);
    sring.init(this.view, 0);
    const index = index32(start);
    for (const word of [RingWord.REQ_PROD, RingWord.RSP_PROD]) {
      sring.setWord(this.view, 0, word, index);
    }
    for (const word of [RingWord.REQ_EVENT, RingWord.RSP_EVENT]) {
      sring.setWord(this.view, 0, word, advance(index, 1));
    }
    this.reqProdPvt = index;
    this.rspCons = index;
    this.#memory.addWindow(this.frame);
    this.reference = guest.grant(this.frame);
  }

  /** Offset of the slot that an index names. */
  at(index: Index32): number {
    return slotOffset(index, this.slotBytes, this.size);
  }

  /** Fills the next request slot by `write`; not shown yet. Returns its index. */
  request(write: (view: DataView, at: number) => void): Index32 {
    const index = this.reqProdPvt;
    write(this.view, this.at(index));
    this.copy(this.at(index), this.slotBytes);
    this.reqProdPvt = advance(index, 1);
    return index;
  }

  /** Shows the requests: req_prod. True when the backend asked to be woken. */
  publish(index: Index32 = this.reqProdPvt): boolean {
    const before = sring.reqProd(this.view, 0);
    sring.setReqProd(this.view, 0, index);
    this.copy(RingWord.REQ_PROD, 4);
    const event = sring.reqEvent(this.view, 0);
    return distance(event, index) < distance(before, index);
  }

  /** Asks to be woken by the next response. */
  arm(event: Index32 = advance(this.rspCons, 1)): void {
    sring.setRspEvent(this.view, 0, event);
    this.copy(RingWord.RSP_EVENT, 4);
  }

  /** Responses that were published and not taken. */
  get waiting(): number {
    return distance(this.rspCons, sring.rspProd(this.view, 0));
  }

  /** Requests that were published and not answered. */
  get unanswered(): number {
    return distance(sring.rspProd(this.view, 0), sring.reqProd(this.view, 0));
  }

  get reqEvent(): number {
    return sring.reqEvent(this.view, 0);
  }

  /** The offset of the next response; it is taken. */
  response(): number {
    const at = this.at(this.rspCons);
    this.rspCons = advance(this.rspCons, 1);
    return at;
  }

  /** A write of the guest to its own memory, as the device gets it. */
  copy(at: number, length: number): void {
    const window = this.#memory.window(this.frame * PAGE, PAGE)!;
    window.bytes.set(this.#memory.page(this.frame).subarray(at, at + length), at);
  }
}
