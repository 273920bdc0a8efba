/**
 * The admin queue: commands of 64 bytes, completions of 64 bytes, and the
 * queue commands. Features are in features.ts, statistics in stats.ts.
 *
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_defs/ena_admin_defs.h.
 *
 * Every structure begins at an entry's first byte, header included, so `at` is
 * always the entry. A driver writes a command with its opcode, and stamps
 * command id and phase when it posts it (`stampCommand`).
 */
import { bits, flag, type Parsed, struct, u8, u16, u32, u48 } from "../bytes/struct.ts";
import type { QueueId } from "../net/frame.ts";
import type { BusAddress } from "../wire/records.ts";

export const AQ_ENTRY_SIZE = 64;
export const ACQ_ENTRY_SIZE = 64;
/** Depth of both admin rings in every known driver. */
export const ADMIN_QUEUE_DEPTH = 32;
/** Where the body of a completion begins. */
export const ACQ_BODY = 8;
/** enum ena_admin_aq_opcode */
export const Opcode = {
  CREATE_SQ: 1,
  DESTROY_SQ: 2,
  CREATE_CQ: 3,
  DESTROY_CQ: 4,
  GET_FEATURE: 8,
  SET_FEATURE: 9,
  GET_STATS: 11,
} as const;
export type Opcode = (typeof Opcode)[keyof typeof Opcode];

/** enum ena_admin_aq_completion_status */
export const AdminStatus = {
  SUCCESS: 0,
  RESOURCE_ALLOCATION_FAILURE: 1,
  BAD_OPCODE: 2,
  /** The only status after which a driver continues without an optional feature. */
  UNSUPPORTED_OPCODE: 3,
  MALFORMED_REQUEST: 4,
  ILLEGAL_PARAMETER: 5,
  UNKNOWN_ERROR: 6,
  RESOURCE_BUSY: 7,
} as const;
export type AdminStatus = (typeof AdminStatus)[keyof typeof AdminStatus];

/** enum ena_admin_sq_direction */
export const SqDirection = { TX: 1, RX: 2 } as const;
export type SqDirection = (typeof SqDirection)[keyof typeof SqDirection];

/** enum ena_admin_placement_policy_type: where descriptors (and pushed headers) lie. */
export const Placement = { HOST: 1, DEV: 3 } as const;
export type Placement = (typeof Placement)[keyof typeof Placement];

// ena_admin_aq_common_desc: 4 bytes
//   0            2        3       4
//   | command id | opcode | flags |     command id: 11:0
//                         '- 0 phase, 1 control data, 2 control data indirect
const AQ_COMMAND_ID = u16(0);
const AQ_OPCODE = u8(2);
const AQ_FLAGS = u8(3);
const aqHeader = {
  commandId: bits(AQ_COMMAND_ID, 0, 12),
  opcode: AQ_OPCODE,
  phase: bits(AQ_FLAGS, 0, 1),
  ctrlData: flag(AQ_FLAGS, 1),
  /** Drivers set this for RSS although they give the address of the data itself: treat it as direct. */
  ctrlDataIndirect: flag(AQ_FLAGS, 2),
} as const;
export const aqCommon = struct(4, aqHeader);

/** Writes id and phase into a command and leaves all other bytes. The last step before posting. */
export function stampCommand(view: DataView, at: number, commandId: number, phase: number): void {
  aqHeader.commandId.set(view, at, commandId);
  aqHeader.phase.set(view, at, phase);
}

// ena_admin_ctrl_buff_info: 12 bytes, at byte 4 of an entry
//   4        8            14  16
//   | length | address 48 | - |
const controlBufferFields = {
  controlLength: u32(4),
  controlAddress: u48<BusAddress>(8),
} as const;

// ena_admin_aq_entry: the header and control buffer of any command, with the rest left alone
/** For features.ts and stats.ts, whose commands begin the same way. */
export const aqEntryFields = { ...aqHeader, ...controlBufferFields } as const;

// ena_admin_acq_common_desc: 8 bytes
//   0            2        3       4          6         8
//   | command id | status | flags | extended | sq head |    flags: 0 phase
const ACQ_COMMAND_ID = u16(0);
const ACQ_FLAGS = u8(3);
export const acqFields = {
  commandId: bits(ACQ_COMMAND_ID, 0, 12),
  status: u8(2),
  phase: bits(ACQ_FLAGS, 0, 1),
  extendedStatus: u16(4),
  sqHeadIndx: u16(6),
} as const;
/** Also the whole answer of SET_FEATURE, DESTROY_SQ and DESTROY_CQ. */
export const acqCommon = struct(ACQ_BODY, acqFields);

// ena_admin_aq_create_sq_cmd: 36 bytes
//   4          5   6        7        8        10         12      18  20          26  28  36
//   | identity | - | caps 2 | caps 3 | cq idx | sq depth | sq ba | - | writeback | - | - |
//     7:5 direction   3:0 placement, 6:4 completion policy; caps 3: 0 contiguous
const SQ_CAPS_2 = u8(6);
export const createSq = struct(36, {
  ...aqHeader,
  direction: bits(u8(4), 5, 3),
  placement: bits(SQ_CAPS_2, 0, 4),
  completionPolicy: bits(SQ_CAPS_2, 4, 3),
  contiguous: flag(u8(7), 0),
  cqIdx: u16<QueueId>(8),
  /** In descriptors, or in LLQ entries when placed in the device. */
  sqDepth: u16(10),
  sqBa: u48<BusAddress>(12),
  sqHeadWriteback: u48<BusAddress>(20),
});
export type CreateSq = Parsed<typeof createSq>;

// ena_admin_acq_create_sq_resp_desc: 24 bytes
//   8        10  12         16                20            24
//   | sq idx | - | doorbell | llq descriptors | llq headers |   offsets: BAR 0, BAR 2, BAR 2
export const createSqResp = struct(24, {
  ...acqFields,
  sqIdx: u16<QueueId>(8),
  sqDoorbellOffset: u32(12),
  llqDescriptorsOffset: u32(16),
  llqHeadersOffset: u32(20),
});

// ena_admin_aq_destroy_sq_cmd: 8 bytes
//   4        6          7   8
//   | sq idx | identity | - |     identity: 7:5 direction
export const destroySq = struct(8, {
  ...aqHeader,
  sqIdx: u16<QueueId>(4),
  direction: bits(u8(6), 5, 3),
});
export type DestroySq = Parsed<typeof destroySq>;

// ena_admin_aq_create_cq_cmd: 20 bytes
//   4        5        6          8             12      18  20
//   | caps 1 | caps 2 | cq depth | msix vector | cq ba | - |
//     caps 1: 5 interrupt mode; caps 2: 4:0 entry size in 32-bit words
export const createCq = struct(20, {
  ...aqHeader,
  interruptMode: flag(u8(4), 5),
  /** 2 for tx and 4 for rx. The comment in the C header (4, 8) is wrong. */
  entrySizeWords: bits(u8(5), 0, 5),
  cqDepth: u16(6),
  msixVector: u32(8),
  cqBa: u48<BusAddress>(12),
});
export type CreateCq = Parsed<typeof createCq>;

// ena_admin_acq_create_cq_resp_desc: 24 bytes
//   8        10             12              16                 20                 24
//   | cq idx | actual depth | numa register | head db register | unmask register |   BAR 0; 0 none
export const createCqResp = struct(24, {
  ...acqFields,
  cqIdx: u16<QueueId>(8),
  cqActualDepth: u16(10),
  numaNodeRegisterOffset: u32(12),
  cqHeadDbRegisterOffset: u32(16),
  cqInterruptUnmaskRegisterOffset: u32(20),
});

// ena_admin_aq_destroy_cq_cmd: 8 bytes
//   4        6   8
//   | cq idx | - |
export const destroyCq = struct(8, { ...aqHeader, cqIdx: u16<QueueId>(4) });
export type DestroyCq = Parsed<typeof destroyCq>;

// ena_admin_ena_mmio_req_read_less_resp: 8 bytes
//   0        2         4           8
//   | req id | reg off | reg value |     the value must be visible before req id is
/** The block at MMIO_RESP to which the device answers a readless register read. */
export const mmioReadResp = struct(8, { reqId: u16(0), regOff: u16(2), regVal: u32(4) });
