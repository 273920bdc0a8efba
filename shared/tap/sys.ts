/**
 * The system calls of this room, through koffi. Only the worker loads this file, so that a process
 * without a TAP, or on another system, never loads koffi.
 *
 * Buffers are passed to read, write and poll as numbers: an address from `addressOf` plus an
 * offset. This saves a view object per call. V8 does not know that such an address is in use, so
 * `addressOf` keeps each of its buffers alive until the process ends.
 */
import { constants } from "node:os";
import koffi from "koffi";

const libc = koffi.load(null);

// open and ioctl are variadic in C. On Linux a variadic call passes integers and pointers as any
// other call does, so plain prototypes suffice. ioctl has two, for an argument by value or by
// address. koffi has no ssize_t, but long has the same width.
type Call<A extends unknown[]> = (...args: A) => number;
const declare = <A extends unknown[]>(prototype: string): Call<A> =>
  libc.func(prototype) as unknown as Call<A>;

export const open = declare<[path: string, flags: number]>("int open(const char *path, int flags)");
export const close = declare<[fd: number]>("int close(int fd)");
export const ioctl = declare<[fd: number, request: number, argument: Uint8Array]>(
  "int ioctl(int fd, unsigned long request, uint8_t *argument)",
);
export const ioctlByValue = declare<[fd: number, request: number, argument: number]>(
  "int ioctl(int fd, unsigned long request, unsigned long argument)",
);
export const read = declare<[fd: number, address: number, bytes: number]>(
  "long read(int fd, uintptr_t address, size_t bytes)",
);
export const write = declare<[fd: number, address: number, bytes: number]>(
  "long write(int fd, uintptr_t address, size_t bytes)",
);
export const poll = declare<[address: number, count: number, ms: number]>(
  "int poll(uintptr_t address, unsigned long count, int ms)",
);
export const eventfd = declare<[start: number, flags: number]>(
  "int eventfd(unsigned int start, int flags)",
);
export const socket = declare<[domain: number, type: number, protocol: number]>(
  "int socket(int domain, int type, int protocol)",
);
export const bind = declare<[fd: number, address: Uint8Array, bytes: number]>(
  "int bind(int fd, uint8_t *address, unsigned int bytes)",
);
export const setns = declare<[fd: number, kind: number]>("int setns(int fd, int kind)");
const memcpy = declare<[to: Uint8Array, from: Uint8Array, bytes: number]>(
  "uintptr_t memcpy(void *to, void *from, size_t bytes)",
);

/** Returns the errno of the last call that returned -1. */
export const errno = (): number => koffi.errno();

export const { EAGAIN, EBUSY, EINTR, EINVAL, ENODEV, ENOENT, ENXIO, EPERM, EACCES } =
  constants.errno;

const kept = new Set<ArrayBufferLike>();

/** Returns the address of the first byte of `bytes`. The buffer is never collected afterwards. */
export function addressOf(bytes: Uint8Array): number {
  kept.add(bytes.buffer);
  return memcpy(bytes, bytes, 0);
}

// linux: include/uapi/asm-generic/fcntl.h
export const O_RDWR = 0o2;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
// poll.h
export const POLLIN = 0x1;
export const POLLOUT = 0x4;
export const POLLERR = 0x8;
// struct pollfd: | fd i32 | events i16 | revents i16 |
export const POLLFD_BYTES = 8;
// linux: include/linux/socket.h, include/linux/net.h
export const AF_INET = 2;
export const AF_NETLINK = 16;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
// linux: include/uapi/linux/sched.h
export const CLONE_NEWNET = 0x4000_0000;
