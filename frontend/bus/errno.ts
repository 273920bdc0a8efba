/**
 * The error numbers that the drivers return, with FreeBSD's values.
 *
 * Source: FreeBSD sys/sys/errno.h, errno(2). Linux has other values for several of these, so do not
 * mix in the host's constants (node:os).
 */
export const Errno = {
  EIO: 5,
  ENXIO: 6,
  ENOMEM: 12,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EINPROGRESS: 36,
  EMSGSIZE: 40,
  EOPNOTSUPP: 45,
  ENETDOWN: 50,
  ENOBUFS: 55,
  ETIMEDOUT: 60,
} as const;
export type Errno = (typeof Errno)[keyof typeof Errno];
