/**
 * Grant table entries, and the packed records in which they travel.
 *
 * Source: xen: xen/include/public/grant_table.h (entries, flags, status codes);
 * shared/wire/README.md (records). The hypercalls on grants are in grant-ops.ts.
 * Entries are granted and ended for every packet: field functions over
 * (view, at), no objects. Flags are read once, into a local, then checked.
 */
import { getU64, setU64 } from "../bytes/u64.ts";
import { type BusAddress, busAddress } from "../wire/records.ts";

const LE = true;

/** Bytes of a granted page. */
export const GRANT_PAGE_BYTES = 4096;
/** Index of an entry in a grant table: one that a table gave, or that was read from a record. */
export type GrantRef = number & { readonly __grantRef: unique symbol };
export const grantRef = (n: number): GrantRef => n as GrantRef;
/** Where byte `offset` of the page behind `reference` lies in Space.GRANT. */
export const grantAddress = (reference: GrantRef, offset: number): BusAddress =>
  busAddress(reference * GRANT_PAGE_BYTES + offset);
/** References below this are reserved; the first two have names. */
export const GNTTAB_NR_RESERVED_ENTRIES = 8;
export const GRANT_ENTRY_V1_SIZE = 8;
export const GRANT_ENTRY_V2_SIZE = 16;

/** The two low bits of an entry's flags. */
export const GrantType = {
  INVALID: 0,
  PERMIT_ACCESS: 1,
  ACCEPT_TRANSFER: 2,
  TRANSITIVE: 3,
} as const;
export type GrantType = (typeof GrantType)[keyof typeof GrantType];
export const GTF_TYPE_MASK = 3;

/** The other bits. READING and WRITING are Xen's; here they are use counts above zero. */
export const GrantFlag = {
  READONLY: 1 << 2,
  READING: 1 << 3,
  WRITING: 1 << 4,
  PWT: 1 << 5,
  PCD: 1 << 6,
  PAT: 1 << 7,
  SUB_PAGE: 1 << 8,
} as const;

/** Bits 2 and 3 of an ACCEPT_TRANSFER entry: for traces, transfers are refused. */
export const TransferFlag = { COMMITTED: 1 << 2, COMPLETED: 1 << 3 } as const;

/** enum grant_status: what grant operations answer, per entry. */
export const Gntst = {
  OKAY: 0,
  GENERAL_ERROR: -1,
  BAD_DOMAIN: -2,
  BAD_GNTREF: -3,
  BAD_HANDLE: -4,
  BAD_VIRT_ADDR: -5,
  BAD_DEV_ADDR: -6,
  NO_DEVICE_SPACE: -7,
  PERMISSION_DENIED: -8,
  BAD_PAGE: -9,
  BAD_COPY_ARG: -10,
  ADDRESS_TOO_BIG: -11,
  EAGAIN: -12,
  NO_SPACE: -13,
} as const;
export type Gntst = (typeof Gntst)[keyof typeof Gntst];

// grant_entry_v1: 8 bytes
//   0       2       4       8
//   | flags | domid | frame |
//
// grant_entry_v2: 16 bytes
//   0       2       4                 6        8          16
//   | flags | domid | -               | -      | frame 64 |     full page
//   | flags | domid | page offset     | length | frame 64 |     sub page: flag SUB_PAGE
//   | flags | domid | trans domid     | -      | gref | - |     transitive: type 3, refused
const FLAGS = 0;
const DOMID = 2;
const V1_FRAME = 4;
const V2_PAGE_OFF = 4;
const V2_LENGTH = 6;
const V2_FRAME = 8;
const V2_TRANS_DOMID = 4;
const V2_GREF = 8;

/** An entry; `at` is its first byte. */
export const grantEntry = {
  flags: (v: DataView, at: number): number => v.getUint16(at + FLAGS, LE),
  domid: (v: DataView, at: number): number => v.getUint16(at + DOMID, LE),
  typeOf: (flags: number): GrantType => (flags & GTF_TYPE_MASK) as GrantType,
  /** Infinity when the number does not fit a double exactly. */
  frame: (v: DataView, at: number, version: 1 | 2): number =>
    version === 1 ? v.getUint32(at + V1_FRAME, LE) : getU64(v, at + V2_FRAME),
  /** Valid only in version 2, with GrantFlag.SUB_PAGE. */
  pageOff: (v: DataView, at: number): number => v.getUint16(at + V2_PAGE_OFF, LE),
  length: (v: DataView, at: number): number => v.getUint16(at + V2_LENGTH, LE),
  /** Valid only in version 2, with GrantType.TRANSITIVE. */
  transDomid: (v: DataView, at: number): number => v.getUint16(at + V2_TRANS_DOMID, LE),
  gref: (v: DataView, at: number): GrantRef => grantRef(v.getUint32(at + V2_GREF, LE)),
} as const;

// Records of the wire's grant columns: reference, then the entry as it stands in the table.
//   0           4                12 or 20
//   | reference | entry v1 or v2 |
const REFERENCE = 0;
/** Where the entry begins in a record of either version. */
export const GRANT_RECORD_ENTRY = 4;
export const GRANT_RECORD_V1_SIZE = GRANT_RECORD_ENTRY + GRANT_ENTRY_V1_SIZE;
export const GRANT_RECORD_V2_SIZE = GRANT_RECORD_ENTRY + GRANT_ENTRY_V2_SIZE;

const referenceAt = (v: DataView, at: number): GrantRef =>
  grantRef(v.getUint32(at + REFERENCE, LE));

/** One record of a `grant` column. `grantEntry` reads its entry, at GRANT_RECORD_ENTRY. */
export const grantRecord = {
  reference: referenceAt,

  /** All bytes. `pageOff` and `length` are of version 2, and 0 for a full page. */
  write(
    v: DataView,
    at: number,
    version: 1 | 2,
    reference: GrantRef,
    flags: number,
    domid: number,
    frame: number,
    pageOff = 0,
    length = 0,
  ): void {
    v.setUint32(at + REFERENCE, reference, LE);
    const entry = at + GRANT_RECORD_ENTRY;
    v.setUint16(entry + FLAGS, flags, LE);
    v.setUint16(entry + DOMID, domid, LE);
    if (version === 1) {
      // Version 1 has 32 bits for a frame; the table itself keeps the whole address.
      v.setUint32(entry + V1_FRAME, frame, LE);
      return;
    }
    v.setUint16(entry + V2_PAGE_OFF, pageOff, LE);
    v.setUint16(entry + V2_LENGTH, length, LE);
    setU64(v, entry + V2_FRAME, frame);
  },
} as const;

/** One record of an `end_grant` column: the reference alone. */
export const END_GRANT_RECORD_SIZE = 4;
export const endGrantRecord = {
  size: END_GRANT_RECORD_SIZE,
  reference: referenceAt,
  write: (v: DataView, at: number, reference: GrantRef): void =>
    v.setUint32(at + REFERENCE, reference, LE),
} as const;

// One record of a `grant_use` column: 8 bytes
//   0           4         6         8
//   | reference | readers | writers |     signed changes of the use counts
const READERS = 4;
const WRITERS = 6;
export const GRANT_USE_RECORD_SIZE = 8;
export const grantUseRecord = {
  size: GRANT_USE_RECORD_SIZE,
  reference: referenceAt,
  readers: (v: DataView, at: number): number => v.getInt16(at + READERS, LE),
  writers: (v: DataView, at: number): number => v.getInt16(at + WRITERS, LE),

  /** All 8 bytes. */
  write(v: DataView, at: number, reference: GrantRef, readers: number, writers: number): void {
    v.setUint32(at + REFERENCE, reference, LE);
    v.setInt16(at + READERS, readers, LE);
    v.setInt16(at + WRITERS, writers, LE);
  },
} as const;

if (V1_FRAME + 4 !== GRANT_ENTRY_V1_SIZE || V2_FRAME + 8 !== GRANT_ENTRY_V2_SIZE) {
  throw new RangeError("grant entry layout");
}
if (WRITERS + 2 !== GRANT_USE_RECORD_SIZE) throw new RangeError("grant use record layout");
