/**
 * Transmit offloads: from a packet's descriptor bits and meta descriptor to the facts of a Frame.
 * Source: what ena_tx_csum (amzn-drivers: kernel/fbsd/ena/ena_datapath.c, kernel/linux/ena/
 * ena_netdev.c) asks for.
 *
 *   l4 csum, partial     the field holds the pseudo-header sum already; it is only passed on
 *   l4 csum, full        the pseudo-header sum is computed and stored there, then as above
 *   tso                  as full, because drivers do not prepare the field
 *   l3 csum              the IPv4 header checksum is computed and stored there
 *
 * The driver's bytes are never changed. Headers that need a change are copied first.
 */

import { L3Proto, L4Proto, txDesc } from "../../shared/ena/io.ts";
import { put16 } from "../../shared/net/big-endian.ts";
import { finishChecksum, foldSum, sumShort } from "../../shared/net/checksum.ts";
import { type Frame, Gso } from "../../shared/net/frame.ts";
import {
  type Headers,
  L3,
  L4,
  TCP_CHECKSUM,
  TCP_FLAGS,
  TcpFlag,
  UDP_CHECKSUM,
} from "../../shared/net/headers.ts";

/** Smallest accepted segment size. With a smaller one a 64 KiB packet would become a flood. */
export const MIN_MSS = 40;
const TCP_MIN_WORDS = 5;
/** Most header bytes: offset and length have 8 bits each, and 18 more reach past TCP's checksum. */
const SCRATCH_BYTES = 255 + 255 + 18;

/** Error of a packet's offloads. The empty string means no error. */
export type OffloadError =
  | ""
  | "TX_META_MISSING"
  | "TX_META_BEYOND_PACKET"
  | "TX_L3_MISMATCH"
  | "TX_L4_MISMATCH"
  | "TX_MSS_ZERO"
  | "TX_MSS_TOO_SMALL";

/** The last meta descriptor of a queue. It applies to later packets too. */
export class TxMeta {
  valid = false;
  mss = 0;
  l3HdrLen = 0;
  l3HdrOffset = 0;
  l4HdrLenWords = 0;
}

export class TxOffloads {
  readonly #scratch = new Uint8Array(SCRATCH_BYTES);

  /** Sets the facts of a complete `frame`. `metaCtrl` is the word of the packet's descriptor. */
  apply(frame: Frame, metaCtrl: number, meta: TxMeta): OffloadError {
    const tso = txDesc.tsoEnableOf(metaCtrl) === 1;
    const l4Csum = tso || txDesc.l4CsumEnableOf(metaCtrl) === 1;
    const l3Csum = txDesc.l3CsumEnableOf(metaCtrl) === 1;
    if (!l4Csum && !l3Csum) return "";
    if (!meta.valid) return "TX_META_MISSING";

    const l3At = meta.l3HdrOffset;
    const l4At = l3At + meta.l3HdrLen;
    if (l4At > frame.length || meta.l3HdrLen === 0) return "TX_META_BEYOND_PACKET";
    // The driver's claims are checked against the packet. Its headers are parsed here only once.
    const h = frame.headers();
    const v4 = h.l3 === L3.IPV4;
    const told = txDesc.l3ProtoOf(metaCtrl);
    if (told !== L3Proto.UNKNOWN && (told === L3Proto.IPV4) !== v4) return "TX_L3_MISMATCH";
    if (h.l3Offset !== l3At || h.l3HeaderLength !== meta.l3HdrLen) return "TX_L3_MISMATCH";
    if (l3Csum && v4) this.#l3(frame, l3At, meta.l3HdrLen);
    if (!l4Csum) return "";
    return this.#l4(frame, h, metaCtrl, meta, tso);
  }

  #l4(frame: Frame, h: Headers, metaCtrl: number, meta: TxMeta, tso: boolean): OffloadError {
    const l3At = meta.l3HdrOffset;
    const l4At = l3At + meta.l3HdrLen;
    const v4 = h.l3 === L3.IPV4;
    const proto = txDesc.l4ProtoOf(metaCtrl);
    if (proto !== L4Proto.TCP && proto !== L4Proto.UDP) return "TX_L4_MISMATCH";
    const ipProto = proto === L4Proto.TCP ? L4.TCP : L4.UDP;
    if (h.l4 !== ipProto) return "TX_L4_MISMATCH";
    const csumOffset = proto === L4Proto.TCP ? TCP_CHECKSUM : UDP_CHECKSUM;
    if (l4At + csumOffset + 2 > frame.length) return "TX_META_BEYOND_PACKET";

    if (tso) {
      if (proto !== L4Proto.TCP || meta.l4HdrLenWords < TCP_MIN_WORDS) return "TX_L4_MISMATCH";
      const headerLength = l4At + meta.l4HdrLenWords * 4;
      if (headerLength > frame.length) return "TX_META_BEYOND_PACKET";
      if (meta.mss === 0) return "TX_MSS_ZERO";
      if (meta.mss < MIN_MSS) return "TX_MSS_TOO_SMALL";
      // A packet that fits one segment is an ordinary frame for all receivers.
      if (frame.length - headerLength > meta.mss) {
        frame.gso = v4 ? Gso.TCPV4 : Gso.TCPV6;
        frame.gsoSize = meta.mss;
        frame.headerLength = headerLength;
        frame.gsoEcn = (frame.byteAt(l4At + TCP_FLAGS) & TcpFlag.CWR) !== 0;
      }
    }
    if (tso || txDesc.l4PartialOf(metaCtrl) === 0) {
      this.#pseudoHeader(frame, l3At, l4At, csumOffset, v4, ipProto);
    }
    frame.needsCsum = true;
    frame.csumStart = l4At;
    frame.csumOffset = csumOffset;
    frame.csumValid = true;
    return "";
  }

  /** Stores the IPv4 header checksum (RFC 791, 3.1). */
  #l3(frame: Frame, l3At: number, length: number): void {
    const bytes = this.#own(frame, l3At + length);
    bytes[l3At + 10] = 0;
    bytes[l3At + 11] = 0;
    put16(bytes, l3At + 10, finishChecksum(sumShort(bytes, l3At, length)));
  }

  /** Stores the sum of the pseudo-header, not inverted, in the checksum field. */
  #pseudoHeader(
    frame: Frame,
    l3At: number,
    l4At: number,
    csumOffset: number,
    v4: boolean,
    ipProto: number,
  ): void {
    const bytes = this.#own(frame, l4At + csumOffset + 2);
    const addresses = v4 ? sumShort(bytes, l3At + 12, 8) : sumShort(bytes, l3At + 8, 32);
    const l4Length = frame.length - l4At;
    put16(bytes, l4At + csumOffset, foldSum(addresses + ipProto + l4Length));
  }

  /** Replaces the first `length` bytes of the frame by a copy that may be changed. */
  #own(frame: Frame, length: number): Uint8Array {
    const scratch = this.#scratch;
    const { buffers, offsets, lengths } = frame;
    if (buffers[0] === scratch && lengths[0]! >= length) return scratch;
    // The range may begin in an earlier, shorter copy. A copy onto itself does no harm.
    const from = buffers[0] === scratch ? lengths[0]! : 0;
    frame.copyTo(scratch, from, from, length - from);
    let gone = 0;
    let left = length;
    while (gone < frame.count && lengths[gone]! <= left) left -= lengths[gone++]!;
    const shift = 1 - gone;
    const count = frame.count + shift;
    if (left > 0) {
      offsets[gone]! += left;
      lengths[gone]! -= left;
    }
    if (shift > 0) {
      for (let i = count - 1; i >= 1; i--) moveSpan(frame, i - shift, i);
    } else if (shift < 0) {
      for (let i = 1; i < count; i++) moveSpan(frame, i - shift, i);
    }
    buffers[0] = scratch;
    offsets[0] = 0;
    lengths[0] = length;
    frame.count = count;
    frame.headersMoved();
    return scratch;
  }
}

function moveSpan(frame: Frame, from: number, to: number): void {
  frame.buffers[to] = frame.buffers[from]!;
  frame.offsets[to] = frame.offsets[from]!;
  frame.lengths[to] = frame.lengths[from]!;
}
