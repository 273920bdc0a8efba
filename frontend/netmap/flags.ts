/**
 * netmap's flags, modes and limits, under its own names without the prefix.
 *
 * Source: netmap: sys/net/netmap.h, sys/dev/netmap/netmap_kern.h, netmap_bdg.h, netmap_pipe.c.
 */

/** Ring directions. Values are the kernel's: netmap_ring.dir carries them. */
export const Txrx = { RX: 0, TX: 1 } as const;
export type Txrx = (typeof Txrx)[keyof typeof Txrx];

export const txrxName = (t: Txrx): string => (t === Txrx.TX ? "tx" : "rx");

/** NS_*: flags of a slot, and their meaning here. */
export const Ns = {
  /** buf_idx was replaced, by the application or by netmap. The driver must map the new buffer. */
  BUF_CHANGED: 0x0001,
  /** Asks for a prompt completion. Completions are always prompt here, so it changes nothing. */
  REPORT: 0x0002,
  /** Receive rings with NR_FORWARD: after release, the frame goes on to the host, or to the NIC. */
  FORWARD: 0x0004,
  /** VALE: defined but ignored, as in netmap_vale.c. */
  NO_LEARN: 0x0008,
  /** VALE transmit: the data is at byte `ptr` of the port's own memory region. */
  INDIRECT: 0x0010,
  /** Not the last slot of its packet. */
  MOREFRAG: 0x0020,
  /** Monitors: the frame was sent by the monitored port. */
  TXMON: 0x0040,
} as const;

/** NS_RFRAGS: on VALE receive rings the high byte counts the slots of the packet. */
export const RFRAGS_SHIFT = 8;

/** NR_*: flags of a ring. */
export const RingFlag = {
  /** Asks for `ts`. Each receive sync sets `ts` in any case, as netmap does by default. */
  TIMESTAMP: 0x0002,
  /** NS_FORWARD is honoured. */
  FORWARD: 0x0004,
} as const;

/** NR_REG_*: the rings that a registration binds. */
export const RegMode = {
  ALL_NIC: 1,
  SW: 2,
  NIC_SW: 3,
  ONE_NIC: 4,
  NULL: 7,
  ONE_SW: 8,
} as const;
export type RegMode = (typeof RegMode)[keyof typeof RegMode];

/** nr_flags of a registration. */
export const RegFlag = {
  MONITOR_TX: 0x100,
  MONITOR_RX: 0x200,
  ZCOPY_MON: 0x400,
  EXCLUSIVE: 0x800,
  RX_RINGS_ONLY: 0x2000,
  TX_RINGS_ONLY: 0x4000,
  ACCEPT_VNET_HDR: 0x8000,
  /** Defined but ignored: poll syncs receive rings only when asked for input. */
  DO_RX_POLL: 0x10000,
  /** poll transmits only when asked for room. */
  NO_TX_POLL: 0x20000,
} as const;

export const MONITOR_FLAGS = RegFlag.MONITOR_TX | RegFlag.MONITOR_RX | RegFlag.ZCOPY_MON;

/** NAF_*: an adapter. */
export const Naf = {
  /** The memory region may not be replaced at registration. */
  MEM_OWNER: 8,
  NATIVE: 16,
  NETMAP_ON: 32,
  HOST_RINGS: 64,
  MOREFRAG: 512,
  /** The driver has detached. */
  ZOMBIE: 1 << 30,
} as const;

/** NKR_*: a kring. */
export const Nkr = {
  PENDINTR: 0x1,
  EXCLUSIVE: 0x2,
  /** Frames of the host ring were moved to NIC rings, which must be synced. */
  FORWARD: 0x4,
  NEEDRING: 0x8,
  /** The ring's buffers belong to another ring. */
  FAKERING: 0x20,
} as const;

export const RingMode = { OFF: 0, ON: 1 } as const;
export type RingMode = (typeof RingMode)[keyof typeof RingMode];

/** nkr_stopped: users of a stopped ring get an error. A locked ring is only skipped for now. */
export const Stopped = { NO: 0, STOPPED: 1, LOCKED: 2 } as const;
export type Stopped = (typeof Stopped)[keyof typeof Stopped];

/** Flags of nm_sync. */
export const SyncFlag = { FORCE_READ: 1, FORCE_RECLAIM: 2, CAN_FORWARD_DOWN: 4 } as const;

/** poll(2). */
export const Poll = { IN: 1, OUT: 4, ERR: 8 } as const;

/** ni_flags: the memory region belongs to this port alone. */
export const NI_PRIV_MEM = 1;

/** Most slots of one packet on a VALE port. */
export const MAX_FRAGS = 64;
/** Low bits of a ring number. */
export const RING_MASK = 0xfff;
/** Most rings, and most slots, that a VALE port or a pipe may ask for. */
export const MAX_RINGS = { VALE: 16, PIPE: 256 } as const;
export const MAX_SLOTS = { VALE: 4096, PIPE: 4096, MONITOR: 4096 } as const;
