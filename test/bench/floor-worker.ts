/**
 * The floor in Node with koffi: one of three processes that only relay frames. Nothing but a
 * blocking poll, read and write, on one thread, with a length (u32) in front of each frame. The TAPs
 * have vnet headers of 10 bytes and all offloads, so a frame may be a super-frame of 64 KiB.
 *
 *   TAP ── end ══ TCP ══ relay ══ TCP ══ end ── TAP
 *
 *   floor-worker.ts relay PORT          floor-worker.ts end TAP ADDRESS PORT
 *
 * floor.c is the same in C. Every write blocks, so traffic that fills both directions at once could
 * stop the floor for ever. The bench fills one direction at a time.
 */
import { writeSync } from "node:fs";
import { isIPv4 } from "node:net";
import { endianness } from "node:os";
import process from "node:process";
import koffi from "koffi";

const libc = koffi.load(null);
type Call<A extends unknown[]> = (...args: A) => number;
const declare = <A extends unknown[]>(prototype: string): Call<A> =>
  libc.func(prototype) as unknown as Call<A>;
const open = declare<[path: string, flags: number]>("int open(const char *path, int flags)");
const ioctl = declare<[fd: number, request: number, argument: Uint8Array]>(
  "int ioctl(int fd, unsigned long request, uint8_t *argument)",
);
const ioctlByValue = declare<[fd: number, request: number, argument: number]>(
  "int ioctl(int fd, unsigned long request, unsigned long argument)",
);
const socket = declare<[number, number, number]>("int socket(int domain, int type, int protocol)");
const setsockopt = declare<[number, number, number, Uint8Array, number]>(
  "int setsockopt(int fd, int level, int name, uint8_t *value, unsigned int bytes)",
);
const bind = declare<[number, Uint8Array, number]>("int bind(int fd, uint8_t *at, unsigned int n)");
const listen = declare<[number, number]>("int listen(int fd, int backlog)");
const accept = declare<[number, number, number]>("int accept(int fd, uintptr_t at, uintptr_t n)");
const connect = declare<[number, Uint8Array, number]>(
  "int connect(int fd, uint8_t *at, unsigned int n)",
);
const poll = declare<[number, number, number]>("int poll(uintptr_t at, unsigned long n, int ms)");
const read = declare<[number, number, number]>("long read(int fd, uintptr_t at, size_t n)");
const write = declare<[number, number, number]>("long write(int fd, uintptr_t at, size_t n)");
const memcpy = declare<[Uint8Array, Uint8Array, number]>(
  "uintptr_t memcpy(void *to, void *from, size_t n)",
);
/** V8 does not move the bytes of a large buffer. `kept` prevents their collection. */
const kept: Uint8Array[] = [];
const addressOf = (bytes: Uint8Array): number => {
  kept.push(bytes);
  return memcpy(bytes, bytes, 0);
};

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const O_RDWR = 0o2;
const O_NONBLOCK = 0o4000;
const TUNSETIFF = 0x4004_54ca;
const TUNSETOFFLOAD = 0x4004_54d0;
/** IFF_TAP, IFF_NO_PI, IFF_VNET_HDR. */
const TAP_FLAGS = 0x0002 | 0x1000 | 0x4000;
/** Checksum, TSO for IPv4 and IPv6, ECN. */
const OFFLOADS = 0x0f;
const POLLIN = 1;
const POLLFD_BYTES = 8;

const FRAME_BYTES = 10 + 65_536;
const LENGTH_BYTES = 4;
const READ_BYTES = 256 << 10;
const LE = endianness() === "LE";

function must(value: number, what: string): number {
  if (value < 0) throw new Error(`${what}: errno ${koffi.errno()}`);
  return value;
}

function say(value: object): void {
  writeSync(1, `${JSON.stringify(value)}\n`);
}

/** struct sockaddr_in: family, port and address; 16 bytes. */
function internet(host: string, port: number): Uint8Array {
  if (!isIPv4(host)) throw new TypeError(`${host} is no IPv4 address`);
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET, LE);
  view.setUint16(2, port);
  bytes.set(host.split(".").map(Number), 4);
  return bytes;
}

const int = (value: number): Uint8Array => new Uint8Array(new Int32Array([value]).buffer);
const noDelay = (fd: number): number => setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, int(1), 4);

function writeAll(fd: number, address: number, bytes: number): void {
  for (let at = 0; at < bytes; ) at += must(write(fd, address + at, bytes - at), "write");
}

/** Bytes of a stream, of which the last frame may be incomplete. */
class Stream {
  readonly #bytes = new Uint8Array(READ_BYTES);
  readonly view = new DataView(this.#bytes.buffer);
  readonly address = addressOf(this.#bytes);
  #have = 0;

  /** One read. Returns the bytes in whole frames. */
  fill(fd: number): number {
    const n = read(fd, this.address + this.#have, READ_BYTES - this.#have);
    if (n <= 0) process.exit(0);
    this.#have += n;
    let at = 0;
    while (at + LENGTH_BYTES <= this.#have) {
      const next = at + LENGTH_BYTES + this.view.getUint32(at, LE);
      if (next > this.#have) break;
      at = next;
    }
    return at;
  }

  keepRest(used: number): void {
    if (used < this.#have) this.#bytes.copyWithin(0, used, this.#have);
    this.#have -= used;
  }
}

/** Two descriptors, waited for together. */
class Poll {
  readonly #bytes = new Uint8Array(4096);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #address = addressOf(this.#bytes);

  constructor(fds: readonly [number, number]) {
    for (const [i, fd] of fds.entries()) {
      this.#view.setInt32(i * POLLFD_BYTES, fd, LE);
      this.#view.setInt16(i * POLLFD_BYTES + 4, POLLIN, LE);
    }
  }

  wait(): void {
    poll(this.#address, 2, -1);
  }

  ready(i: number): boolean {
    return this.#view.getInt16(i * POLLFD_BYTES + 6, LE) !== 0;
  }
}

function relay(port: number): never {
  const listener = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, int(1), 4);
  must(bind(listener, internet("0.0.0.0", port), 16), "bind");
  must(listen(listener, 2), "listen");
  say({ ready: true });
  const ends = [accept(listener, 0, 0), accept(listener, 0, 0)] as const;
  for (const fd of ends) noDelay(fd);
  const streams = [new Stream(), new Stream()] as const;
  const wait = new Poll(ends);
  for (;;) {
    wait.wait();
    for (let i = 0; i < 2; i++) {
      if (!wait.ready(i)) continue;
      const stream = streams[i]!;
      const whole = stream.fill(ends[i]!);
      writeAll(ends[1 - i]!, stream.address, whole);
      stream.keepRest(whole);
    }
  }
}

function openTap(name: string): number {
  const fd = must(open("/dev/net/tun", O_RDWR | O_NONBLOCK), "/dev/net/tun");
  // struct ifreq: name, flags.
  const request = new Uint8Array(40);
  request.set(Buffer.from(name), 0);
  new DataView(request.buffer).setUint16(16, TAP_FLAGS, LE);
  must(ioctl(fd, TUNSETIFF, request), name);
  must(ioctlByValue(fd, TUNSETOFFLOAD, OFFLOADS), "offloads");
  return fd;
}

function end(name: string, host: string, port: number): never {
  const tap = openTap(name);
  const line = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
  must(connect(line, internet(host, port), 16), host);
  noDelay(line);
  say({ ready: true });
  const message = new Uint8Array(LENGTH_BYTES + FRAME_BYTES);
  const head = new DataView(message.buffer);
  const address = addressOf(message);
  const stream = new Stream();
  const wait = new Poll([tap, line]);
  for (;;) {
    wait.wait();
    if (wait.ready(0)) {
      const n = read(tap, address + LENGTH_BYTES, FRAME_BYTES);
      if (n > 0) {
        head.setUint32(0, n, LE);
        writeAll(line, address, LENGTH_BYTES + n);
      }
    }
    if (wait.ready(1)) {
      const whole = stream.fill(line);
      for (let at = 0; at < whole; ) {
        const length = stream.view.getUint32(at, LE);
        // A TAP that is down refuses frames.
        write(tap, stream.address + at + LENGTH_BYTES, length);
        at += LENGTH_BYTES + length;
      }
      stream.keepRest(whole);
    }
  }
}

const [role, ...rest] = process.argv.slice(2);
if (role === "relay") relay(Number(rest[0]));
else end(rest[0]!, rest[1]!, Number(rest[2]));
