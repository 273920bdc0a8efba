/**
 * Numbers that all hypercalls share: the calls, their errors, and domain ids.
 *
 * Source: xen: xen/include/public/xen.h, xen/include/public/errno.h.
 * The argument structures are in grant-ops.ts, event-channel.ts and sched.ts.
 */

/** The hypercalls that a paravirtual NIC needs. All others return ENOSYS here. */
export const Hypercall = { GRANT_TABLE_OP: 20, SCHED_OP: 29, EVENT_CHANNEL_OP: 32 } as const;
export type Hypercall = (typeof Hypercall)[keyof typeof Hypercall];

/** Xen's own numbers, the same on every guest; a call returns them negated. */
export const XenErrno = {
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
} as const;
export type XenErrno = (typeof XenErrno)[keyof typeof XenErrno];

/** Domain ids that name no guest. A guest's own id is below FIRST_RESERVED. */
export const Domid = {
  /** The caller itself. It is the same number as FIRST_RESERVED. */
  SELF: 0x7ff0,
  IO: 0x7ff1,
  XEN: 0x7ff2,
  COW: 0x7ff3,
  INVALID: 0x7ff4,
  ANY: 0x7ff5,
  IDLE: 0x7fff,
} as const;
export type Domid = (typeof Domid)[keyof typeof Domid];
export const DOMID_FIRST_RESERVED = 0x7ff0;
