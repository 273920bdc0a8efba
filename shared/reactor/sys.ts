/**
 * The system calls of the data path, through koffi. Loaded by dynamic import only, so that a process
 * on another system never loads koffi.
 *
 * Hot calls accept an address as a number: `addressOf` a buffer, plus an offset. This saves a view
 * object per call. V8 does not know that such an address is in use, and collects a buffer that no
 * code mentions any more, also one in a variable of a function or module that goes on. The kernel
 * would write into freed memory. So a field of an object that is in use holds the buffer, and the
 * buffer is never small enough to lie in V8's own heap (64 bytes).
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
function declareIfThere<A extends unknown[]>(prototype: string): Call<A> | undefined {
  try {
    return declare(prototype);
  } catch {
    return undefined;
  }
}

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
export const writev = declare<[fd: number, address: number, count: number]>(
  "long writev(int fd, uintptr_t address, int count)",
);
export const recv = declare<[fd: number, address: number, bytes: number, flags: number]>(
  "long recv(int fd, uintptr_t address, size_t bytes, int flags)",
);
export const send = declare<[fd: number, address: number, bytes: number, flags: number]>(
  "long send(int fd, uintptr_t address, size_t bytes, int flags)",
);
export const shutdown = declare<[fd: number, how: number]>("int shutdown(int fd, int how)");
export const flock = declare<[fd: number, operation: number]>("int flock(int fd, int operation)");
export const fcntl = declare<[fd: number, command: number, argument: number]>(
  "int fcntl(int fd, int command, long argument)",
);
export const epollCreate = declare<[flags: number]>("int epoll_create1(int flags)");
export const epollCtl = declare<[epoll: number, op: number, fd: number, event: Uint32Array]>(
  "int epoll_ctl(int epoll, int op, int fd, uint32_t *event)",
);
export const epollWait = declare<[epoll: number, events: number, count: number, ms: number]>(
  "int epoll_wait(int epoll, uintptr_t events, int count, int ms)",
);
/** For a caller that waits with one event: koffi keeps the buffer for the length of the call. */
export const epollWaitOne = declare<[epoll: number, event: Uint32Array, one: 1, ms: number]>(
  "int epoll_wait(int epoll, uint32_t *event, int count, int ms)",
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
/** Returns freed memory of the C library to the system. Undefined where it is not glibc. */
export const trimHeap = declareIfThere<[keepBytes: number]>("int malloc_trim(size_t keep)");
/** Sets an option of the C library's allocator. Undefined where it is not glibc. */
export const mallopt = declareIfThere<[option: number, value: number]>(
  "int mallopt(int option, int value)",
);
type Bytes = Uint8Array | Uint32Array;
const memcpy = declare<[to: Bytes, from: Bytes, bytes: number]>(
  "uintptr_t memcpy(void *to, void *from, size_t bytes)",
);

/** Returns the errno of the last call that returned -1. */
export const errno = (): number => koffi.errno();

export const { EAGAIN, EBUSY, EINTR, EINVAL, ENODEV, ENOENT, ENXIO, EPERM, EACCES } =
  constants.errno;

/** Smallest buffer for `addressOf`. V8 may move the bytes of a smaller one. */
const LEAST_BYTES = 65;

/**
 * Returns the address of the first byte of `bytes`. It is valid while the caller keeps a reference
 * to `bytes`. Throws RangeError for a buffer that V8 may move.
 */
export function addressOf(bytes: Bytes): number {
  if (bytes.buffer.byteLength < LEAST_BYTES) {
    throw new RangeError(`a buffer of ${bytes.buffer.byteLength} bytes has no fixed address`);
  }
  return memcpy(bytes, bytes, 0);
}

const addresses = new WeakMap<ArrayBufferLike, number>();

/**
 * Returns the address of a buffer that is used again and again. As with `addressOf`, the caller
 * keeps a reference to the buffer.
 */
export function addressOfBuffer(buffer: ArrayBufferLike): number {
  let address = addresses.get(buffer);
  if (address === undefined) {
    address = addressOf(new Uint8Array(buffer));
    addresses.set(buffer, address);
  }
  return address;
}

// linux: include/uapi/asm-generic/fcntl.h
export const O_RDONLY = 0;
export const O_RDWR = 0o2;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const F_DUPFD_CLOEXEC = 1030;
// linux: include/uapi/asm-generic/fcntl.h
export const LOCK_EX = 2;
export const LOCK_NB = 4;
// linux: include/uapi/linux/eventpoll.h
export const EPOLLIN = 0x1;
export const EPOLLOUT = 0x4;
export const EPOLLERR = 0x8;
export const EPOLLHUP = 0x10;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
// linux: include/linux/socket.h, include/linux/net.h
export const AF_INET = 2;
export const AF_NETLINK = 16;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const SHUT_WR = 1;
export const SHUT_RDWR = 2;
// linux: include/uapi/linux/sched.h
export const CLONE_NEWNET = 0x4000_0000;
// glibc: malloc/malloc.h
export const M_MMAP_THRESHOLD = -3;
