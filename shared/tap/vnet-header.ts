/**
 * Byte layout of struct virtio_net_hdr, which stands before every frame of a TAP opened with
 * IFF_VNET_HDR, and its translation to and from the offload facts of a Frame.
 *
 *   0       1          2         4          6            8            10
 *   | flags | gso_type | hdr_len | gso_size | csum_start | csum_offset |
 *
 * Source: virtio 1.2, section 5.1.6; linux: include/uapi/linux/virtio_net.h. A TAP uses the ten-byte
 * form, without num_buffers, by default. Fields are little-endian on every machine, because the
 * opener requests that order (TUNSETVNETLE).
 */
import { type Frame, Gso } from "../net/frame.ts";

export const VNET_HEADER_BYTES = 10;

const FLAGS = 0;
const GSO_TYPE = 1;
const HDR_LEN = 2;
const GSO_SIZE = 4;
const CSUM_START = 6;
const CSUM_OFFSET = 8;
const LE = true;

// flags
export const VNET_F_NEEDS_CSUM = 1 << 0;
export const VNET_F_DATA_VALID = 1 << 1;
// gso_type: the ECN mark is a bit beside the kind.
export const VNET_GSO_ECN = 0x80;

// TCP's data offset, in 32-bit words, is the high half of this byte of its header.
const TCP_DATA_OFFSET = 12;
const TCP_MIN_HEADER = 20;
const CSUM_BYTES = 2;

/**
 * Reads the header at `at` into the facts of `frame`, which already holds its spans. Returns false
 * when header and frame disagree: such a frame is dropped and counted. Never throws.
 */
export function readVnetHeader(v: DataView, at: number, frame: Frame): boolean {
  const flags = v.getUint8(at + FLAGS);
  const gsoType = v.getUint8(at + GSO_TYPE);
  if ((flags & VNET_F_NEEDS_CSUM) !== 0) {
    const start = v.getUint16(at + CSUM_START, LE);
    const offset = v.getUint16(at + CSUM_OFFSET, LE);
    if (start + offset + CSUM_BYTES > frame.length) return false;
    frame.needsCsum = true;
    frame.csumStart = start;
    frame.csumOffset = offset;
    frame.csumValid = true;
  } else if ((flags & VNET_F_DATA_VALID) !== 0) {
    frame.csumValid = true;
  }
  return gsoType === Gso.NONE || readGso(v, at, gsoType, frame);
}

function readGso(v: DataView, at: number, gsoType: number, frame: Frame): boolean {
  const kind = gsoType & ~VNET_GSO_ECN;
  // TUNSETOFFLOAD requests TCP only, so the kernel segments everything else itself.
  if (kind !== Gso.TCPV4 && kind !== Gso.TCPV6) return false;
  if (!frame.needsCsum) return false;
  const size = v.getUint16(at + GSO_SIZE, LE);
  if (size === 0) return false;

  // hdr_len is only a hint about the linear part of the sender's buffer, often longer than the
  // headers. The TCP header starts where the checksum does and contains its own length.
  const words = frame.byteAt(frame.csumStart + TCP_DATA_OFFSET) >> 4;
  const tcpBytes = words * 4;
  const header = frame.csumStart + tcpBytes;
  if (words < 0 || tcpBytes < TCP_MIN_HEADER || header > frame.length) {
    return false;
  }
  frame.gso = kind;
  frame.gsoEcn = (gsoType & VNET_GSO_ECN) !== 0;
  frame.gsoSize = size;
  frame.headerLength = header;
  return true;
}

/** Writes the facts of `frame` as the ten bytes at `at`; every byte is set. */
export function writeVnetHeader(v: DataView, at: number, frame: Frame): void {
  let flags = 0;
  let start = 0;
  let offset = 0;
  if (frame.needsCsum) {
    flags = VNET_F_NEEDS_CSUM;
    start = frame.csumStart;
    offset = frame.csumOffset;
  } else if (frame.csumValid) {
    flags = VNET_F_DATA_VALID;
  }
  const ecn = frame.gso !== Gso.NONE && frame.gsoEcn ? VNET_GSO_ECN : 0;
  v.setUint8(at + FLAGS, flags);
  v.setUint8(at + GSO_TYPE, frame.gso | ecn);
  v.setUint16(at + HDR_LEN, frame.gso === Gso.NONE ? 0 : frame.headerLength, LE);
  v.setUint16(at + GSO_SIZE, frame.gso === Gso.NONE ? 0 : frame.gsoSize, LE);
  v.setUint16(at + CSUM_START, start, LE);
  v.setUint16(at + CSUM_OFFSET, offset, LE);
}
