/** Looking into an mbuf chain for the few header bytes that the data path needs. */
import type { Mbuf } from "./mbuf.ts";

/** The byte at `at` of the chain, 0 beyond its end. m_getptr(9), for headers. */
export function mbufByte(m: Mbuf, at: number): number {
  let piece: Mbuf | undefined = m;
  let skip = at;
  while (piece !== undefined && skip >= piece.length) {
    skip -= piece.length;
    piece = piece.next;
  }
  return piece === undefined ? 0 : piece.buffer[piece.at + skip]!;
}

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

/**
 * A number that is the same for all packets of a flow: addresses and ports of TCP and UDP, else
 * addresses alone. FNV-1a over a handful of bytes; only its evenness matters, nobody compares it.
 */
export function flowHash(m: Mbuf): number {
  let at = 12;
  let etherType = mbufByte(m, at) * 256 + mbufByte(m, at + 1);
  if (etherType === 0x8100 || etherType === 0x88a8) {
    at += 4;
    etherType = mbufByte(m, at) * 256 + mbufByte(m, at + 1);
  }
  const l3 = at + 2;
  if (etherType === 0x0800) {
    const fragment = ((mbufByte(m, l3 + 6) & 0x3f) | mbufByte(m, l3 + 7)) !== 0;
    const hash = hashBytes(m, FNV_OFFSET, l3 + 12, 8);
    const l4 = l3 + (mbufByte(m, l3) & 0xf) * 4;
    return fragment ? hash : hashPorts(m, hash, mbufByte(m, l3 + 9), l4);
  }
  if (etherType === 0x86dd) {
    return hashPorts(m, hashBytes(m, FNV_OFFSET, l3 + 8, 32), mbufByte(m, l3 + 6), l3 + 40);
  }
  return hashBytes(m, FNV_OFFSET, 0, 12);
}

const TCP = 6;
const UDP = 17;

const hashPorts = (m: Mbuf, hash: number, protocol: number, l4: number): number =>
  protocol === TCP || protocol === UDP ? hashBytes(m, hash, l4, 4) : hash;

function hashBytes(m: Mbuf, seed: number, at: number, count: number): number {
  let hash = seed;
  for (let i = 0; i < count; i++) hash = Math.imul(hash ^ mbufByte(m, at + i), FNV_PRIME) >>> 0;
  return (hash ^ (hash >>> 16)) >>> 0;
}
