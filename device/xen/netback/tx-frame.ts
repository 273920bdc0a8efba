/**
 * Makes a frame for the switch from the pieces of a packet: headers in one span, offload facts beside it.
 *
 *   pieces  | 1 | 1 | 40 | 4096 ...      wherever the guest split it
 *   frame   | head: 128 | rest ...       the head a copy when the first piece is shorter
 *
 * A receiver finds all headers in the first span. A NIC or a stack that relies on this must not
 * depend on how the guest split its packet (XSA-423). The head is bounded in bytes and not in pieces
 * (XSA-432). Empty pieces become no spans (XSA-448).
 *
 * Source: linux: drivers/net/xen-netback/netback.c (XEN_NETBACK_TX_COPY_LEN, checksum_setup,
 * xenvif_set_skb_gso).
 */
import { copyBytes } from "../../../shared/bytes/copy.ts";
import { foldSum, sumPseudoHeader } from "../../../shared/net/checksum.ts";
import { Frame, Gso } from "../../../shared/net/frame.ts";
import {
  HEADER_WINDOW_BYTES,
  type Headers,
  L3,
  L4,
  TCP_CHECKSUM,
  TCP_FLAGS,
  TcpFlag,
  UDP_CHECKSUM,
} from "../../../shared/net/headers.ts";
import { GsoType } from "../../../shared/xen/extra.ts";
import { TxFlag } from "../../../shared/xen/netif.ts";
import type { Span } from "../../dma/host-memory.ts";
import { FATAL_SLOTS, type TxPacket } from "./tx-packet.ts";

/** Number of bytes at the front of a frame that lie in one span. */
export const HEAD_BYTES = 128;
const CHECKSUM_BYTES = 2;

const EMPTY = new Uint8Array(0);

export class TxFrame {
  readonly frame = new Frame();
  /** Number of super-frames without a blank checksum: rx_gso_checksum_fixup of Linux's netback. */
  checksumFixups = 0;
  readonly #head = new Uint8Array(HEADER_WINDOW_BYTES);
  /**
   * The bytes of each piece of the current packet. They must stay valid until the frame has been
   * delivered.
   */
  readonly pieces: readonly Span[] = Array.from({ length: FATAL_SLOTS }, () => {
    return { buffer: EMPTY, at: 0, length: 0 };
  });

  /**
   * Makes the frame and its facts. Returns false when the headers contradict the packet's flags, so
   * that no port could send the frame on.
   */
  build(packet: TxPacket): boolean {
    this.#assemble(packet, Math.min(packet.total, HEAD_BYTES));
    const { frame } = this;
    const isBlank = (packet.flags & TxFlag.CSUM_BLANK) !== 0;
    const isGso = packet.gsoSize !== 0;
    if (!isBlank && !isGso) {
      frame.csumValid = (packet.flags & TxFlag.DATA_VALIDATED) !== 0;
      return true;
    }
    const h = frame.headers();
    const isTcp = h.l4 === L4.TCP;
    if ((!isTcp && h.l4 !== L4.UDP) || h.l4HeaderLength === 0 || h.fragment) return false;
    if (isGso && (!isTcp || (packet.gsoType === GsoType.TCPV4) !== (h.l3 === L3.IPV4))) {
      return false;
    }
    const csumOffset = isTcp ? TCP_CHECKSUM : UDP_CHECKSUM;
    // A super-frame without a blank checksum is a mistake of the guest that is easy to correct.
    if (!isBlank) {
      this.#blank(packet, h, h.l4Offset + csumOffset);
      this.checksumFixups++;
    }
    frame.needsCsum = true;
    frame.csumStart = h.l4Offset;
    frame.csumOffset = csumOffset;
    frame.csumValid = true;
    const headerLength = h.l4Offset + h.l4HeaderLength;
    // A super-frame that fits in one segment is an ordinary frame for all ports.
    if (isGso && frame.length - headerLength > packet.gsoSize) {
      frame.gso = h.l3 === L3.IPV4 ? Gso.TCPV4 : Gso.TCPV6;
      frame.gsoSize = packet.gsoSize;
      frame.headerLength = headerLength;
      frame.gsoEcn = (h.u8(h.l4Offset + TCP_FLAGS) & TcpFlag.CWR) !== 0;
    }
    return true;
  }

  /** Drops the references to the bytes of delivered packets, which are not valid any longer. */
  forget(): void {
    for (let i = 0; i < FATAL_SLOTS; i++) this.pieces[i]!.buffer = EMPTY;
  }

  /** Writes the sum of the pseudo-header into the checksum field, in a copy of the headers. */
  #blank(packet: TxPacket, h: Headers, at: number): void {
    const sum = foldSum(sumPseudoHeader(h, h.l3End - h.l4Offset));
    this.#assemble(packet, at + CHECKSUM_BYTES, true);
    this.#head[at] = sum >>> 8;
    this.#head[at + 1] = sum & 0xff;
  }

  /** Adds the pieces to the frame. Its first `headBytes` are in one span, copied if necessary. */
  #assemble(packet: TxPacket, headBytes: number, always = false): void {
    const { frame } = this;
    const head = this.#head;
    const { sizes, slots } = packet;
    let left = always ? headBytes : 0;
    let i = 0;
    while (i < slots && sizes[i] === 0) i++;
    if (i < slots && sizes[i]! < headBytes) left = headBytes;
    frame.reset();
    for (; i < slots; i++) {
      const size = sizes[i]!;
      const { buffer, at } = this.pieces[i]!;
      const part = Math.min(left, size);
      if (part > 0) {
        copyBytes(buffer, at, head, headBytes - left, part);
        left -= part;
        if (left === 0) frame.push(head, 0, headBytes);
      }
      if (part < size) frame.append(buffer, at + part, size - part);
    }
  }
}
