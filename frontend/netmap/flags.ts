/**
 * netmap's flags, modes and limits, under its own names without the prefix.
 *
 * Source: netmap: sys/net/netmap.h, sys/dev/netmap/netmap_kern.h, netmap_bdg.h, netmap_pipe.c.
 */

/** Ring directions. Values are the kernel's: netmap_ring.dir carries them. */
export const Txrx = { RX: 0, TX: 1 } as const;
export type Txrx = (typeof Txrx)[keyof typeof Txrx];

export const txrxName = (t: Txrx): string => (t === Txrx.TX ? "tx" : "rx");

/** NS_*: flags of a slot, and what they mean here. */
export const Ns = {
  /** buf_idx was replaced, by the application or by us: map it anew. */
  BUF_CHANGED: 0x0001,
  /** Tell when this slot is sent. Completions are always told soon, so it changes nothing. */
  REPORT: 0x0002,
  /** Receive rings, with NR_FORWARD: on release the frame goes on to the host, or to the NIC. */
  FORWARD: 0x0004,
  /** VALE: defined, and as in netmap_vale.c nobody looks at it. */
  NO_LEARN: 0x0008,
  /** VALE transmit: the data is at byte `ptr` of the port's own memory region. */
  INDIRECT: 0x0010,
  /** Not the last slot of its packet. */
  MOREFRAG: 0x0020,
  /** Monitors: the frame was on its way out. */
  TXMON: 0x0040,
} as const;

/** NS_RFRAGS: on VALE receive rings the high byte counts the slots of the packet. */
export const RFRAGS_SHIFT = 8;

/** NR_*: flags of a ring. */
export const RingFlag = {
  /** Asks for `ts`. Each receive sync sets it with or without, as netmap does by default. */
  TIMESTAMP: 0x0002,
  /** NS_FORWARD is honoured. */
  FORWARD: 0x0004,
} as const;

/** NR_REG_*: which rings a registration binds. */
export const RegMode = {
  DEFAULT: 0,
  ALL_NIC: 1,
  SW: 2,
  NIC_SW: 3,
  ONE_NIC: 4,
  PIPE_MASTER: 5,
  PIPE_SLAVE: 6,
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
  /** Defined; poll syncs receive rings only when asked for input. */
  DO_RX_POLL: 0x10000,
  /** poll does not transmit unless asked for room. */
  NO_TX_POLL: 0x20000,
} as const;

export const MONITOR_FLAGS = RegFlag.MONITOR_TX | RegFlag.MONITOR_RX | RegFlag.ZCOPY_MON;

/** NAF_*: an adapter. */
export const Naf = {
  SKIP_INTR: 1,
  SW_ONLY: 2,
  BDG_MAYSLEEP: 4,
  /** The memory region may not be replaced at registration. */
  MEM_OWNER: 8,
  NATIVE: 16,
  NETMAP_ON: 32,
  HOST_RINGS: 64,
  FORCE_NATIVE: 128,
  MOREFRAG: 512,
  /** The driver is gone. */
  ZOMBIE: 1 << 30,
  /** In use by the program itself (a switch, say): not to be opened. */
  BUSY: 1 << 31,
} as const;

/** NKR_*: a kring. */
export const Nkr = {
  PENDINTR: 0x1,
  EXCLUSIVE: 0x2,
  /** The host ring has frames that were moved to NIC rings: sync those. */
  FORWARD: 0x4,
  NEEDRING: 0x8,
  NOINTR: 0x10,
  /** The ring's buffers belong to somebody else. */
  FAKERING: 0x20,
} as const;

export const RingMode = { OFF: 0, ON: 1 } as const;
export type RingMode = (typeof RingMode)[keyof typeof RingMode];

/** nkr_stopped: a stopped ring is an error to its users, a locked one is just not synced now. */
export const Stopped = { NO: 0, STOPPED: 1, LOCKED: 2 } as const;
export type Stopped = (typeof Stopped)[keyof typeof Stopped];

/** Flags of nm_sync. */
export const SyncFlag = { FORCE_READ: 1, FORCE_RECLAIM: 2, CAN_FORWARD_DOWN: 4 } as const;

/** What an interrupt helper says to the driver. PASS: not netmap's, do as usual. */
export const Irq = { PASS: 0, COMPLETED: -1, RESCHED: -2 } as const;
export type Irq = (typeof Irq)[keyof typeof Irq];

/** poll(2). */
export const Poll = { IN: 1, OUT: 4, ERR: 8 } as const;

/** ni_flags: the region belongs to this port alone. */
export const NI_PRIV_MEM = 1;

/** Slots of one packet on a VALE port. */
export const MAX_FRAGS = 64;
/** Low bits of a ring number. */
export const RING_MASK = 0xfff;
/** Rings that a VALE port or a pipe may ask for, and slots. */
export const MAX_RINGS = { VALE: 16, PIPE: 256 } as const;
export const MAX_SLOTS = { VALE: 4096, PIPE: 4096, MONITOR: 4096 } as const;
