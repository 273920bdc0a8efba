/**
 * IO descriptors and registers: the structures that the data path uses.
 *
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_defs/ena_eth_io_defs.h.
 * Everything is little-endian. These run for every packet: one function per
 * field over (view, at), writers that take numbers, no objects. `at` is always
 * the descriptor's first byte. Bits come as 0 or 1, so that they can be passed on.
 *
 * The `...Of` functions accept a word that was read before; the others read it
 * from memory. The other side can change the memory at any time, so a word is
 * read once, checked, then used.
 */
import { type Bit, bit } from "../bytes/bits.ts";

export * from "./io-rx.ts";
export * from "./io-tx.ts";

/** Size of every submission descriptor: tx, tx meta, rx. */
export const DESC_SIZE = 16;

/** enum ena_eth_io_l3_proto_index. FCOE and ROCE do not fit the four bits of a tx descriptor. */
export const L3Proto = { UNKNOWN: 0, IPV4: 8, IPV6: 11, FCOE: 21, ROCE: 22 } as const;
export type L3Proto = (typeof L3Proto)[keyof typeof L3Proto];

/** enum ena_eth_io_l4_proto_index */
export const L4Proto = { UNKNOWN: 0, TCP: 12, UDP: 13, ROUTEABLE_ROCE: 23 } as const;
export type L4Proto = (typeof L4Proto)[keyof typeof L4Proto];

/**
 * ena_eth_io_intr_reg: one for each completion queue.
 *   | 31 keep moderation | 30 unmask | 29:15 tx delay | 14:0 rx delay |
 * Delays are in steps of intrModeration.intrDelayResolutionUs.
 */
export const intrReg = {
  /** Clears "keep moderation", so that the delays are those given. */
  pack: (rxDelay: number, txDelay: number, unmask: number): number =>
    ((rxDelay & 0x7fff) | ((txDelay & 0x7fff) << 15) | ((unmask & 1) << 30)) >>> 0,
  rxDelay: (r: number): number => r & 0x7fff,
  txDelay: (r: number): number => (r >>> 15) & 0x7fff,
  unmask: (r: number): Bit => bit(r, 30),
  keepsModeration: (r: number): Bit => bit(r, 31),
} as const;
