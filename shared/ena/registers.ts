/**
 * BAR 0 of an ENA function: register offsets and the fields inside each register.
 *
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_defs/ena_regs_defs.h.
 * Reset reason 20: kernel/linux/common/ena_com/ena_regs_defs.h.
 *
 * Registers are 32 bits wide and written whole, so fields are functions over a
 * number. Past this block the device places what CREATE_SQ and CREATE_CQ
 * answer with: doorbells, interrupt registers, NUMA registers.
 */

//   0x00 VERSION       0x10 AQ_BASE_LO   0x20 ACQ_BASE_LO  0x30 ACQ_TAIL
//   0x04 CONTROLLER_V. 0x14 AQ_BASE_HI   0x24 ACQ_BASE_HI  0x34 AENQ_CAPS
//   0x08 CAPS          0x18 AQ_CAPS      0x28 ACQ_CAPS     0x38 AENQ_BASE_LO
//   0x0c CAPS_EXT                        0x2c AQ_DB        0x3c AENQ_BASE_HI
//   0x40 AENQ_HEAD_DB  0x54 DEV_CTL      0x60 MMIO_RESP_LO 0x100 PHC_DB
//   0x44 AENQ_TAIL     0x58 DEV_STS      0x64 MMIO_RESP_HI
//   0x4c INTR_MASK     0x5c MMIO_REG_READ 0x68 RSS_IND_ENTRY_UPDATE
export const Register = {
  VERSION: 0x00,
  CONTROLLER_VERSION: 0x04,
  CAPS: 0x08,
  CAPS_EXT: 0x0c,
  AQ_BASE_LO: 0x10,
  AQ_BASE_HI: 0x14,
  AQ_CAPS: 0x18,
  ACQ_BASE_LO: 0x20,
  ACQ_BASE_HI: 0x24,
  ACQ_CAPS: 0x28,
  AQ_DB: 0x2c,
  ACQ_TAIL: 0x30,
  AENQ_CAPS: 0x34,
  AENQ_BASE_LO: 0x38,
  AENQ_BASE_HI: 0x3c,
  AENQ_HEAD_DB: 0x40,
  AENQ_TAIL: 0x44,
  INTR_MASK: 0x4c,
  DEV_CTL: 0x54,
  DEV_STS: 0x58,
  MMIO_REG_READ: 0x5c,
  MMIO_RESP_LO: 0x60,
  MMIO_RESP_HI: 0x64,
  RSS_IND_ENTRY_UPDATE: 0x68,
  PHC_DB: 0x100,
} as const;
export type Register = (typeof Register)[keyof typeof Register];

/** Result of a failed read. No register may hold this value otherwise. */
export const REGISTER_READ_FAILED = 0xffff_ffff;
/** INTR_MASK: the only two values that drivers write. */
export const INTR_MASK_ALL = 1;
export const INTR_UNMASK_ALL = 0;

/** VERSION: | 31:16 - | 15:8 major | 7:0 minor | */
export const versionReg = {
  pack: (major: number, minor: number): number => ((major & 0xff) << 8) | (minor & 0xff),
  major: (r: number): number => (r >>> 8) & 0xff,
  minor: (r: number): number => r & 0xff,
} as const;

/** CONTROLLER_VERSION: | 31:24 implementation | 23:16 major | 15:8 minor | 7:0 subminor | */
export const controllerVersionReg = {
  pack: (implId: number, major: number, minor: number, subminor: number): number =>
    (((implId & 0xff) << 24) |
      ((major & 0xff) << 16) |
      ((minor & 0xff) << 8) |
      (subminor & 0xff)) >>>
    0,
  major: (r: number): number => (r >>> 16) & 0xff,
  minor: (r: number): number => (r >>> 8) & 0xff,
  subminor: (r: number): number => r & 0xff,
  /** The version without the implementation. Drivers compare it with their minimum. */
  comparable: (r: number): number => r & 0xff_ffff,
} as const;

/**
 * CAPS: | 19:16 admin timeout | 15:8 DMA width in bits | 5:1 reset timeout | 0 contiguous |
 * Both timeouts count in units of 100 ms. Reset timeout must not be 0.
 */
export const capsReg = {
  pack: (
    contiguousQueues: number,
    resetTimeout: number,
    dmaWidthBits: number,
    adminTimeout: number,
  ): number =>
    (contiguousQueues & 1) |
    ((resetTimeout & 0x1f) << 1) |
    ((dmaWidthBits & 0xff) << 8) |
    ((adminTimeout & 0xf) << 16),
  resetTimeout: (r: number): number => (r >>> 1) & 0x1f,
  dmaWidthBits: (r: number): number => (r >>> 8) & 0xff,
  adminTimeout: (r: number): number => (r >>> 16) & 0xf,
} as const;
export const CAPS_TIMEOUT_UNIT_MS = 100;

/** AQ_CAPS, ACQ_CAPS, AENQ_CAPS: | 31:16 entry size in bytes | 15:0 depth in entries | */
export const queueCapsReg = {
  pack: (depth: number, entryBytes: number): number =>
    (((entryBytes & 0xffff) << 16) | (depth & 0xffff)) >>> 0,
  depth: (r: number): number => r & 0xffff,
  entryBytes: (r: number): number => r >>> 16,
} as const;

/** DEV_CTL bits; the reset reason lies above them. */
export const DevCtl = {
  DEV_RESET: 1 << 0,
  AQ_RESTART: 1 << 1,
  QUIESCENT: 1 << 2,
  IO_RESUME: 1 << 3,
} as const;
export type DevCtl = (typeof DevCtl)[keyof typeof DevCtl];

/**
 * DEV_CTL: | 31:28 reason, low half | 27:24 reason, high half | 3:0 bits of DevCtl |
 * Only devices with Capability.EXTENDED_RESET_REASONS read the high half. For other devices
 * `packReset` writes GENERIC in place of a reason that needs it.
 */
export const devCtlReg = {
  packReset: (reason: number, extendedReasons: boolean): number => {
    const told = reason > 0xf && !extendedReasons ? ResetReason.GENERIC : reason;
    return (((told & 0xf) << 28) | (((told >>> 4) & 0xf) << 24) | DevCtl.DEV_RESET) >>> 0;
  },
  reason: (r: number): number => (r >>> 28) | (((r >>> 24) & 0xf) << 4),
} as const;

/** DEV_STS bits. */
export const DevSts = {
  READY: 1 << 0,
  AQ_RESTART_IN_PROGRESS: 1 << 1,
  AQ_RESTART_FINISHED: 1 << 2,
  RESET_IN_PROGRESS: 1 << 3,
  RESET_FINISHED: 1 << 4,
  FATAL_ERROR: 1 << 5,
  QUIESCENT_STATE_IN_PROGRESS: 1 << 6,
  QUIESCENT_STATE_ACHIEVED: 1 << 7,
} as const;
export type DevSts = (typeof DevSts)[keyof typeof DevSts];

/** MMIO_REG_READ: | 31:16 register offset | 15:0 request id | */
export const mmioReadReg = {
  pack: (registerOffset: number, reqId: number): number =>
    (((registerOffset & 0xffff) << 16) | (reqId & 0xffff)) >>> 0,
  registerOffset: (r: number): number => r >>> 16,
  reqId: (r: number): number => r & 0xffff,
} as const;

/** The reason for which a driver resets its device. DEV_CTL carries it. */
export const ResetReason = {
  NORMAL: 0,
  KEEP_ALIVE_TO: 1,
  ADMIN_TO: 2,
  MISS_TX_CMPL: 3,
  INV_RX_REQ_ID: 4,
  INV_TX_REQ_ID: 5,
  TOO_MANY_RX_DESCS: 6,
  INIT_ERR: 7,
  DRIVER_INVALID_STATE: 8,
  OS_TRIGGER: 9,
  OS_NETDEV_WD: 10,
  SHUTDOWN: 11,
  USER_TRIGGER: 12,
  GENERIC: 13,
  MISS_INTERRUPT: 14,
  SUSPECTED_POLL_STARVATION: 15,
  RX_DESCRIPTOR_MALFORMED: 16,
  TX_DESCRIPTOR_MALFORMED: 17,
  MISSING_ADMIN_INTERRUPT: 18,
  DEVICE_REQUEST: 19,
  MISS_FIRST_INTERRUPT: 20,
} as const;
export type ResetReason = (typeof ResetReason)[keyof typeof ResetReason];
