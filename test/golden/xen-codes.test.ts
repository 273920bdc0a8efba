/**
 * Xen's constants against the headers, number by number.
 *
 * How the numbers were made: the C program of xen-netif.test.ts printed each macro and enumerator.
 * The error numbers are the list of xen: xen/include/public/errno.h, without aliases and without
 * Xen's internal ones.
 */
import { describe, expect, test } from "vitest";
import type { Codes } from "../../shared/bytes/names.ts";
import {
  CtrlStatus,
  CtrlType,
  HashAlgorithm,
  HashFlag,
  HashType,
} from "../../shared/xen/control.ts";
import { EVTCHN_2L_NR_CHANNELS, EvtchnOp, EvtchnStatus } from "../../shared/xen/event-channel.ts";
import { EXTRA_FLAG_MORE, EXTRA_TYPE_MAX, ExtraType, GsoType } from "../../shared/xen/extra.ts";
import {
  GNTTAB_NR_RESERVED_ENTRIES,
  Gntst,
  GRANT_PAGE_BYTES,
  GrantFlag,
  GrantType,
  GTF_TYPE_MASK,
  TransferFlag,
} from "../../shared/xen/grant.ts";
import { GntCopy, GntMap, GnttabOp } from "../../shared/xen/grant-ops.ts";
import { DOMID_FIRST_RESERVED, Domid, Hypercall, XenErrno } from "../../shared/xen/hypercall.ts";
import { MAX_TX_SIZE, NetifStatus, NR_SLOTS_MIN, RxFlag, TxFlag } from "../../shared/xen/netif.ts";
import { RING_PAGE_BYTES, RingWord } from "../../shared/xen/ring.ts";
import { SchedOp, ShutdownReason } from "../../shared/xen/sched.ts";
import { XenbusState } from "../../shared/xen/xenbus.ts";
import {
  XENSTORE_ABS_PATH_MAX,
  XENSTORE_PAYLOAD_MAX,
  XENSTORE_REL_PATH_MAX,
  XS_ERRORS,
  XsType,
} from "../../shared/xen/xenstore.ts";

const TABLES: readonly (readonly [string, Codes, Codes])[] = [
  ["Hypercall", Hypercall, { GRANT_TABLE_OP: 20, SCHED_OP: 29, EVENT_CHANNEL_OP: 32 }],
  [
    "XenErrno",
    XenErrno,
    {
      EPERM: 1,
      ENOENT: 2,
      ESRCH: 3,
      EIO: 5,
      ENXIO: 6,
      E2BIG: 7,
      ENOEXEC: 8,
      EBADF: 9,
      ECHILD: 10,
      EAGAIN: 11,
      ENOMEM: 12,
      EACCES: 13,
      EFAULT: 14,
      EBUSY: 16,
      EEXIST: 17,
      EXDEV: 18,
      ENODEV: 19,
      ENOTDIR: 20,
      EISDIR: 21,
      EINVAL: 22,
      ENFILE: 23,
      EMFILE: 24,
      ENOSPC: 28,
      EROFS: 30,
      EMLINK: 31,
      EDOM: 33,
      ERANGE: 34,
      EDEADLK: 35,
      ENAMETOOLONG: 36,
      ENOLCK: 37,
      ENOSYS: 38,
      ENOTEMPTY: 39,
      ENODATA: 61,
      ETIME: 62,
      EBADMSG: 74,
      EOVERFLOW: 75,
      EILSEQ: 84,
      ENOTSOCK: 88,
      EMSGSIZE: 90,
      EOPNOTSUPP: 95,
      EADDRINUSE: 98,
      EADDRNOTAVAIL: 99,
      ENOBUFS: 105,
      EISCONN: 106,
      ENOTCONN: 107,
      ETIMEDOUT: 110,
      ECONNREFUSED: 111,
    },
  ],
  [
    "Domid",
    Domid,
    { SELF: 32752, IO: 32753, XEN: 32754, COW: 32755, INVALID: 32756, ANY: 32757, IDLE: 32767 },
  ],
  ["SchedOp", SchedOp, { YIELD: 0, BLOCK: 1, SHUTDOWN: 2, POLL: 3 }],
  [
    "ShutdownReason",
    ShutdownReason,
    { POWEROFF: 0, REBOOT: 1, SUSPEND: 2, CRASH: 3, WATCHDOG: 4, SOFT_RESET: 5 },
  ],
  [
    "EvtchnOp",
    EvtchnOp,
    {
      BIND_INTERDOMAIN: 0,
      BIND_VIRQ: 1,
      BIND_PIRQ: 2,
      CLOSE: 3,
      SEND: 4,
      STATUS: 5,
      ALLOC_UNBOUND: 6,
      BIND_IPI: 7,
      BIND_VCPU: 8,
      UNMASK: 9,
      RESET: 10,
      INIT_CONTROL: 11,
      EXPAND_ARRAY: 12,
      SET_PRIORITY: 13,
    },
  ],
  [
    "EvtchnStatus",
    EvtchnStatus,
    { CLOSED: 0, UNBOUND: 1, INTERDOMAIN: 2, PIRQ: 3, VIRQ: 4, IPI: 5 },
  ],
  ["GrantType", GrantType, { INVALID: 0, PERMIT_ACCESS: 1, ACCEPT_TRANSFER: 2, TRANSITIVE: 3 }],
  [
    "GrantFlag",
    GrantFlag,
    { READONLY: 4, READING: 8, WRITING: 16, PWT: 32, PCD: 64, PAT: 128, SUB_PAGE: 256 },
  ],
  ["TransferFlag", TransferFlag, { COMMITTED: 4, COMPLETED: 8 }],
  [
    "Gntst",
    Gntst,
    {
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
    },
  ],
  [
    "GnttabOp",
    GnttabOp,
    {
      MAP_GRANT_REF: 0,
      UNMAP_GRANT_REF: 1,
      SETUP_TABLE: 2,
      DUMP_TABLE: 3,
      TRANSFER: 4,
      COPY: 5,
      QUERY_SIZE: 6,
      UNMAP_AND_REPLACE: 7,
      SET_VERSION: 8,
      GET_STATUS_FRAMES: 9,
      GET_VERSION: 10,
      SWAP_GRANT_REF: 11,
      CACHE_FLUSH: 12,
    },
  ],
  [
    "GntMap",
    GntMap,
    { DEVICE_MAP: 1, HOST_MAP: 2, READONLY: 4, APPLICATION_MAP: 8, CONTAINS_PTE: 16 },
  ],
  ["GntCopy", GntCopy, { SOURCE_GREF: 1, DEST_GREF: 2 }],
  ["TxFlag", TxFlag, { CSUM_BLANK: 1, DATA_VALIDATED: 2, MORE_DATA: 4, EXTRA_INFO: 8 }],
  [
    "RxFlag",
    RxFlag,
    { DATA_VALIDATED: 1, CSUM_BLANK: 2, MORE_DATA: 4, EXTRA_INFO: 8, GSO_PREFIX: 16 },
  ],
  ["NetifStatus", NetifStatus, { OKAY: 0, ERROR: -1, DROPPED: -2, NULL: 1 }],
  ["ExtraType", ExtraType, { NONE: 0, GSO: 1, MCAST_ADD: 2, MCAST_DEL: 3, HASH: 4 }],
  ["GsoType", GsoType, { NONE: 0, TCPV4: 1, TCPV6: 2 }],
  [
    "CtrlType",
    CtrlType,
    {
      INVALID: 0,
      GET_HASH_FLAGS: 1,
      SET_HASH_FLAGS: 2,
      SET_HASH_KEY: 3,
      GET_HASH_MAPPING_SIZE: 4,
      SET_HASH_MAPPING_SIZE: 5,
      SET_HASH_MAPPING: 6,
      SET_HASH_ALGORITHM: 7,
      GET_GREF_MAPPING_SIZE: 8,
      ADD_GREF_MAPPING: 9,
      DEL_GREF_MAPPING: 10,
    },
  ],
  [
    "CtrlStatus",
    CtrlStatus,
    { SUCCESS: 0, NOT_SUPPORTED: 1, INVALID_PARAMETER: 2, BUFFER_OVERFLOW: 3 },
  ],
  ["HashType", HashType, { IPV4: 0, IPV4_TCP: 1, IPV6: 2, IPV6_TCP: 3 }],
  ["HashFlag", HashFlag, { IPV4: 1, IPV4_TCP: 2, IPV6: 4, IPV6_TCP: 8 }],
  ["HashAlgorithm", HashAlgorithm, { NONE: 0, TOEPLITZ: 1 }],
  [
    "XsType",
    XsType,
    {
      CONTROL: 0,
      DIRECTORY: 1,
      READ: 2,
      GET_PERMS: 3,
      WATCH: 4,
      UNWATCH: 5,
      TRANSACTION_START: 6,
      TRANSACTION_END: 7,
      INTRODUCE: 8,
      RELEASE: 9,
      GET_DOMAIN_PATH: 10,
      WRITE: 11,
      MKDIR: 12,
      RM: 13,
      SET_PERMS: 14,
      WATCH_EVENT: 15,
      ERROR: 16,
      IS_DOMAIN_INTRODUCED: 17,
      RESUME: 18,
      SET_TARGET: 19,
      RESET_WATCHES: 21,
      DIRECTORY_PART: 22,
      GET_FEATURE: 23,
      SET_FEATURE: 24,
      GET_QUOTA: 25,
      SET_QUOTA: 26,
      INVALID: 65535,
    },
  ],
  [
    "XenbusState",
    XenbusState,
    {
      UNKNOWN: 0,
      INITIALISING: 1,
      INIT_WAIT: 2,
      INITIALISED: 3,
      CONNECTED: 4,
      CLOSING: 5,
      CLOSED: 6,
      RECONFIGURING: 7,
      RECONFIGURED: 8,
    },
  ],
  ["RingWord", RingWord, { REQ_PROD: 0, REQ_EVENT: 4, RSP_PROD: 8, RSP_EVENT: 12 }],
];

const SINGLE: readonly (readonly [string, number, number])[] = [
  ["EVTCHN_2L_NR_CHANNELS", EVTCHN_2L_NR_CHANNELS, 4096],
  ["XENSTORE_PAYLOAD_MAX", XENSTORE_PAYLOAD_MAX, 4096],
  ["XENSTORE_ABS_PATH_MAX", XENSTORE_ABS_PATH_MAX, 3072],
  ["XENSTORE_REL_PATH_MAX", XENSTORE_REL_PATH_MAX, 2048],
  ["GNTTAB_NR_RESERVED_ENTRIES", GNTTAB_NR_RESERVED_ENTRIES, 8],
  ["GTF_type_mask", GTF_TYPE_MASK, 3],
  ["XEN_NETIF_NR_SLOTS_MIN", NR_SLOTS_MIN, 18],
  ["XEN_NETIF_MAX_TX_SIZE", MAX_TX_SIZE, 65535],
  ["XEN_NETIF_EXTRA_TYPE_MAX", EXTRA_TYPE_MAX, 5],
  ["XEN_NETIF_EXTRA_FLAG_MORE", EXTRA_FLAG_MORE, 1],
  ["DOMID_FIRST_RESERVED", DOMID_FIRST_RESERVED, 0x7ff0],
  ["a page, for grants", GRANT_PAGE_BYTES, 4096],
  ["a page, for rings", RING_PAGE_BYTES, 4096],
];

describe("Xen's numbers", () => {
  test.each(TABLES)("%s", (_name, ours, theirs) => expect(ours).toEqual(theirs));
  test.each(SINGLE)("%s", (_name, ours, theirs) => expect(ours).toBe(theirs));

  test("the error names of xs_wire.h, in its order; each has a number", () => {
    expect(XS_ERRORS).toEqual(
      "EINVAL EACCES EEXIST EISDIR ENOENT ENOMEM ENOSPC EIO ENOTEMPTY ENOSYS EROFS EBUSY EAGAIN EISCONN E2BIG EPERM".split(
        " ",
      ),
    );
    for (const name of XS_ERRORS) expect(XenErrno[name]).toBeGreaterThan(0);
  });
});
