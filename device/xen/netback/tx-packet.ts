/**
 * One packet as the transmit ring describes it, each slot copied once (XSA-155).
 *
 *   | first: size of all | extra | extra | fragment | fragment ... |
 *     EXTRA_INFO, MORE_DATA  MORE            MORE_DATA
 *
 * The first slot carries the size of the whole packet. Its own piece is that size less all other
 * pieces. A broken rule inside a packet costs the packet, and its slots are answered. A broken rule
 * is fatal when nobody could tell where the next packet begins, or when only an attacker breaks it.
 *
 * Source: xen: xen/include/public/io/netif.h; linux: drivers/net/xen-netback/netback.c,
 * xenvif_tx_build_gops, xenvif_get_extras and xenvif_count_requests. Slots are counted here with
 * the first.
 */
import { MAC_BYTES } from "../../../shared/net/ethernet.ts";
import type { BusAddress } from "../../../shared/wire/records.ts";
import {
  EXTRA_FLAG_MORE,
  EXTRA_TYPE_MAX,
  ExtraType,
  extra,
  GsoType,
} from "../../../shared/xen/extra.ts";
import { GRANT_PAGE_BYTES, grantAddress, grantRef } from "../../../shared/xen/grant.ts";
import { NR_SLOTS_MIN, TxFlag, txRequest } from "../../../shared/xen/netif.ts";
import type { BackRing } from "./back-ring.ts";

/** fatal_skb_slots: a frontend that uses this many slots is malicious and not mistaken. */
export const FATAL_SLOTS = 20;

/** Segments of a super-frame that count as the work of one packet: more than one of 64 KiB has. */
const SEGMENTS_A_PACKET = 64;

/** Rules: breaking one disables the interface. */
export type FatalCode =
  | ""
  | "TX_EXTRA_MISSING"
  | "TX_EXTRA_TYPE"
  | "TX_SLOTS_MISSING"
  | "TX_SLOTS_MALICIOUS"
  | "TX_CROSSES_PAGE"
  | "TX_GSO_TYPE"
  | "TX_GSO_SIZE";

/** Rules: breaking one costs the packet. */
export type BrokenCode = "" | "TX_TOO_MANY_SLOTS" | "TX_PIECE_TOO_LONG";

export class TxPacket {
  readonly grefs = new Float64Array(FATAL_SLOTS);
  readonly offsets = new Int32Array(FATAL_SLOTS);
  /** Bytes of each piece. The first piece is the packet's size less all others. */
  readonly sizes = new Int32Array(FATAL_SLOTS);
  readonly ids = new Int32Array(FATAL_SLOTS);
  /** Number of slots with data, the first included. */
  slots = 0;
  extras = 0;
  flags = 0;
  /** Bytes of the whole packet. */
  total = 0;
  /** Bytes of payload in a segment; 0 for a packet that is not segmented. */
  gsoSize = 0;
  gsoType: number = GsoType.NONE;
  /** MCAST_ADD, MCAST_DEL or NONE. With either of the first two, no packet is sent. */
  multicast: number = ExtraType.NONE;
  readonly group = new Uint8Array(MAC_BYTES);
  fatal: FatalCode = "";
  broken: BrokenCode = "";

  /**
   * The work of this packet, counted in packets. A port without segmentation receives each segment
   * as a frame, and the guest decides how small the segments are.
   */
  get work(): number {
    if (this.gsoSize === 0) return 1;
    return 1 + Math.floor(this.total / (this.gsoSize * SEGMENTS_A_PACKET));
  }

  /**
   * Reads the packet at the ring's consumer index; `available` requests are posted, at least one.
   * Returns false after a fatal error. Does not consume: the packet has `slots + extras` slots.
   */
  read(ring: BackRing, available: number): boolean {
    const { view } = ring;
    const at = ring.at(0);
    this.fatal = "";
    this.broken = "";
    this.gsoSize = 0;
    this.gsoType = GsoType.NONE;
    this.multicast = ExtraType.NONE;
    this.extras = 0;
    this.slots = 0;
    this.flags = txRequest.flags(view, at);
    this.#readSlot(view, at);
    this.total = this.sizes[0]!;
    if ((this.flags & TxFlag.EXTRA_INFO) !== 0 && !this.#readExtras(ring, available)) return false;
    if (this.multicast !== ExtraType.NONE) return true;
    if ((this.flags & TxFlag.MORE_DATA) !== 0 && !this.#readFragments(ring, available)) {
      return false;
    }
    if (this.broken === "" && this.#crosses(0)) this.fatal = "TX_CROSSES_PAGE";
    return this.fatal === "";
  }

  /** Where the bytes of slot `i` lie in Space.GRANT. */
  address(i: number): BusAddress {
    return grantAddress(grantRef(this.grefs[i]!), this.offsets[i]!);
  }

  /** Bytes of slot `i` and of the slots behind it whose addresses follow without a gap. */
  run(i: number): number {
    let bytes = this.sizes[i]!;
    for (let next = i + 1; next < this.slots; next++) {
      if (this.address(next) !== this.address(i) + bytes) break;
      bytes += this.sizes[next]!;
    }
    return bytes;
  }

  #readSlot(view: DataView, at: number): void {
    const i = this.slots++;
    this.grefs[i] = txRequest.gref(view, at);
    this.offsets[i] = txRequest.offset(view, at);
    this.ids[i] = txRequest.id(view, at);
    this.sizes[i] = txRequest.size(view, at);
  }

  #readExtras(ring: BackRing, available: number): boolean {
    const { view } = ring;
    let more = true;
    while (more) {
      const ahead = 1 + this.extras;
      if (ahead >= available) return this.#end("TX_EXTRA_MISSING");
      const at = ring.at(ahead);
      const type = extra.type(view, at);
      more = (extra.flags(view, at) & EXTRA_FLAG_MORE) !== 0;
      this.extras++;
      if (type === ExtraType.NONE || type >= EXTRA_TYPE_MAX) return this.#end("TX_EXTRA_TYPE");
      if (type === ExtraType.GSO) {
        this.gsoSize = extra.gsoSize(view, at);
        this.gsoType = extra.gsoType(view, at);
        if (this.gsoSize === 0) return this.#end("TX_GSO_SIZE");
        if (this.gsoType !== GsoType.TCPV4 && this.gsoType !== GsoType.TCPV6) {
          return this.#end("TX_GSO_TYPE");
        }
      } else if (type === ExtraType.MCAST_ADD || type === ExtraType.MCAST_DEL) {
        this.multicast = type;
        for (let i = 0; i < MAC_BYTES; i++) this.group[i] = extra.mcastByte(view, at, i);
      }
      // netback does not use the hash of a packet that the guest sends.
    }
    return true;
  }

  #readFragments(ring: BackRing, available: number): boolean {
    const { view } = ring;
    let left = this.total;
    let more = true;
    while (more) {
      const ahead = this.slots + this.extras;
      if (ahead >= available) return this.#end("TX_SLOTS_MISSING");
      const i = this.slots;
      // Slots beyond the limit are read as well, because they must be answered.
      if (i + 1 >= FATAL_SLOTS) return this.#end("TX_SLOTS_MALICIOUS");
      const at = ring.at(ahead);
      more = (txRequest.flags(view, at) & TxFlag.MORE_DATA) !== 0;
      this.#readSlot(view, at);
      if (this.#crosses(i)) return this.#end("TX_CROSSES_PAGE");
      if (this.slots > NR_SLOTS_MIN) this.#breaks("TX_TOO_MANY_SLOTS");
      if (this.sizes[i]! > left) this.#breaks("TX_PIECE_TOO_LONG");
      else left -= this.sizes[i]!;
    }
    this.sizes[0] = left;
    return true;
  }

  #crosses(i: number): boolean {
    return this.offsets[i]! + this.sizes[i]! > GRANT_PAGE_BYTES;
  }

  #breaks(code: BrokenCode): void {
    if (this.broken === "") this.broken = code;
  }

  #end(code: FatalCode): false {
    this.fatal = code;
    return false;
  }
}
