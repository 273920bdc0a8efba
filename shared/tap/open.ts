/**
 * Opens a TAP: attaches to the persistent TAP of that name, or creates a TAP that vanishes with its
 * file descriptor. Every refusal is a TapError that names the remedy.
 *
 * Source: linux: Documentation/networking/tuntap.rst; drivers/net/tun.c (tun_set_iff,
 * __tun_chr_ioctl) for which call needs which right.
 */
import { formatMac } from "../net/ethernet.ts";
import * as sys from "../reactor/sys.ts";
import { badName, checkTapName, createLine, errnoText, TapError } from "./errors.ts";
import * as ifr from "./ifreq.ts";
import { VNET_HEADER_BYTES } from "./vnet-header.ts";

export interface TapLink {
  /** Bytes behind the Ethernet header. */
  readonly mtu: number;
  /** True while administratively up, as by `ip link set up`. */
  readonly up: boolean;
}

export interface OpenOptions {
  readonly name: string;
  /** MAC address of six bytes. Without it the kernel's choice stands. */
  readonly mac?: Uint8Array | undefined;
  /** Bytes behind the Ethernet header. Without it the kernel's value stands. */
  readonly mtu?: number | undefined;
  /** True when the kernel may deliver unfinished checksums and TCP super-frames. */
  readonly offloads: boolean;
  /** True to bring up an interface that is created here. */
  readonly bringUp: boolean;
}

export interface OpenedTap {
  readonly fd: number;
  /** True for a persistent TAP, which stays when the descriptor is closed. */
  readonly existing: boolean;
  readonly mac: Uint8Array;
}

const TUN_PATH = "/dev/net/tun";
const TUN_FLAGS = ifr.IFF_TAP | ifr.IFF_NO_PI | ifr.IFF_VNET_HDR | ifr.IFF_NO_CARRIER;
const OFFLOADS = ifr.TUN_F_CSUM | ifr.TUN_F_TSO4 | ifr.TUN_F_TSO6 | ifr.TUN_F_TSO_ECN;
/** Value in place of the descriptor of an eBPF program: no program. */
const NO_PROGRAM = -1;

type Warn = (fields: object, message: string) => void;

/** Opens a socket for the interface ioctls; any family serves. The caller closes the socket. */
export function openControlSocket(): number {
  const fd = sys.socket(sys.AF_INET, sys.SOCK_DGRAM | sys.O_CLOEXEC, 0);
  if (fd < 0) throw failed("no socket to ask about interfaces");
  return fd;
}

export function attachTap(options: OpenOptions, control: number, warn: Warn): OpenedTap {
  const { name } = options;
  checkTapName(name);
  const fd = openTun();
  try {
    attach(fd, name, control);
    // For kernels that ignore IFF_NO_CARRIER. Kernels before 5.0 refuse, and the carrier stays on.
    setCarrier(fd, false);
    const existing = (tunFlags(fd) & ifr.IFF_PERSIST) !== 0;
    shapeHeaders(fd);
    clearFilters(fd);
    settleLinkType(fd, name);
    // A persistent TAP keeps the offloads of its last user, so "none" must be set explicitly.
    if (!options.offloads || !setOffloads(fd, OFFLOADS)) setOffloads(fd, 0);
    const mac = settleMac(fd, name, options.mac);
    settleMtu(control, name, options.mtu, warn);
    if (!existing && options.bringUp) bringUp(control, name);
    return { fd, existing, mac };
  } catch (error) {
    sys.close(fd);
    throw error;
  }
}

/** Makes a call that no kernel should refuse. Throws TapError with the words `refused`. */
function mustIoctl(fd: number, request: number, argument: Uint8Array, refused: string): void {
  if (sys.ioctl(fd, request, argument) !== 0) throw failed(refused);
}

/** True when the user lacks a right for what the kernel has refused. */
const isForbidden = (why: number): boolean => why === sys.EPERM || why === sys.EACCES;

function openTun(): number {
  const fd = sys.open(TUN_PATH, sys.O_RDWR | sys.O_NONBLOCK | sys.O_CLOEXEC);
  if (fd >= 0) return fd;
  const why = sys.errno();
  if (why === sys.ENOENT || why === sys.ENODEV || why === sys.ENXIO) {
    throw new TapError(
      "TAP_NO_DEVICE",
      `${TUN_PATH} is not there: load the module with "sudo modprobe tun", or start the container with "--device ${TUN_PATH} --cap-add NET_ADMIN"`,
    );
  }
  if (isForbidden(why)) {
    throw new TapError(
      "TAP_NO_PERMISSION",
      `this user may not open ${TUN_PATH}: run as root, or allow it with "sudo chmod 0666 ${TUN_PATH}" (safe: creating interfaces still needs root)`,
    );
  }
  throw failed(`${TUN_PATH} can't be opened`, why);
}

/**
 * Attaches by TUNSETIFF. The queue flag must be the flag that a persistent TAP was created with, or
 * the kernel returns EINVAL. Flags such as vnet_hdr are set by each user that attaches. EINVAL with
 * and without the queue flag means that the name belongs to an interface of another kind.
 */
function attach(fd: number, name: string, control: number): void {
  let why = trySetIff(fd, name, TUN_FLAGS);
  if (why === 0) return;
  if (why === sys.EINVAL && trySetIff(fd, name, TUN_FLAGS | ifr.IFF_MULTI_QUEUE) === 0) return;
  if (why === sys.EINVAL) why = sys.errno();
  if (why === sys.EBUSY) {
    throw new TapError(
      "TAP_BUSY",
      `the TAP ${name} is in use by another process: end that one, or choose another name`,
    );
  }
  if (why === sys.EINVAL && exists(control, name)) {
    throw new TapError(
      "TAP_WRONG_KIND",
      `the name ${name} belongs to an interface that is no TAP: choose another name`,
    );
  }
  if (why === sys.EPERM && exists(control, name)) {
    throw new TapError(
      "TAP_NO_PERMISSION",
      `the TAP ${name} belongs to another user: run as that user or as root, or make it anew with "sudo ip link del ${name}; ${createLine(name)}"`,
    );
  }
  if (why === sys.EPERM) {
    throw new TapError(
      "TAP_NO_PERMISSION",
      `creating the TAP ${name} needs root: run as root, or let root make it once with "${createLine(name)}"`,
    );
  }
  // Each kernel reserves some names. `checkTapName` has refused all known ones before.
  if (why === sys.EINVAL) throw badName(name, "is refused by the kernel (EINVAL)");
  throw failed(`the TAP ${name} can't be attached`, why);
}

function trySetIff(fd: number, name: string, flags: number): number {
  const request = new ifr.Ifreq();
  request.about(name);
  request.flags = flags;
  return sys.ioctl(fd, ifr.TUNSETIFF, request.bytes) === 0 ? 0 : sys.errno();
}

/** Returns the flags of the TAP after TUNSETIFF. Throws when the interface is gone. */
function tunFlags(fd: number): number {
  const request = new ifr.Ifreq();
  mustIoctl(fd, ifr.TUNGETIFF, request.bytes, "the TAP can't be asked");
  return request.flags;
}

/** Returns the present name of the interface, or undefined when it is gone. */
export function currentName(fd: number): string | undefined {
  const request = new ifr.Ifreq();
  return sys.ioctl(fd, ifr.TUNGETIFF, request.bytes) === 0 ? request.name : undefined;
}

const exists = (control: number, name: string): boolean =>
  sys.ioctl(control, ifr.SIOCGIFINDEX, new ifr.Ifreq().about(name)) === 0;

/** Sets the header format. A persistent TAP may still have the 12-byte header of its last user. */
function shapeHeaders(fd: number): void {
  const size = int(VNET_HEADER_BYTES);
  mustIoctl(fd, ifr.TUNSETVNETHDRSZ, size, "the TAP takes no 10-byte vnet header");
  mustIoctl(fd, ifr.TUNSETVNETLE, int(1), "the TAP takes no little-endian vnet header");
}

/**
 * Resets the filters to those of a new TAP. A persistent TAP keeps the filters of its last users,
 * which select the frames (a list of addresses, an eBPF program) and their queue. A classic BPF
 * program and the size of the send buffer do not persist. For the program, the bit of IFF_NO_PI is
 * also the bit of IFF_NOFILTER.
 *
 * Source: linux: drivers/net/tun.c (tun_attach, update_filter, tun_set_ebpf).
 */
function clearFilters(fd: number): void {
  // struct tun_filter: flags u16, count u16, addresses. With a count of 0 every frame passes.
  mustIoctl(fd, ifr.TUNSETTXFILTER, new Uint8Array(4), "the TAP keeps its transmit filter");
  // Kernels before 4.16 support neither program, so there is none to remove.
  sys.ioctl(fd, ifr.TUNSETSTEERINGEBPF, int(NO_PROGRAM));
  sys.ioctl(fd, ifr.TUNSETFILTEREBPF, int(NO_PROGRAM));
}

/** Sets the link type to Ethernet. With another type the kernel refuses MACs and sends no Ethernet. */
function settleLinkType(fd: number, name: string): void {
  const request = new ifr.Ifreq();
  const unread = `the link type of ${name} can't be read`;
  mustIoctl(fd, ifr.SIOCGIFHWADDR, request.about(name), unread);
  if (request.linkType === ifr.ARPHRD_ETHER) return;
  if (sys.ioctlByValue(fd, ifr.TUNSETLINK, ifr.ARPHRD_ETHER) === 0) return;
  const why = sys.errno();
  if (why !== sys.EBUSY) throw failed(`the link type of ${name} can't be set`, why);
  throw new TapError(
    "TAP_WRONG_KIND",
    `another program set the TAP ${name} to a link type that is not Ethernet: make it anew with "sudo ip link del ${name}; ${createLine(name)}"`,
  );
}

const int = (n: number): Uint8Array => new Uint8Array(new Int32Array([n]).buffer);

/** Sets the carrier (`ip link`: NO-CARRIER when down). Returns false on failure; see errno. */
export const setCarrier = (fd: number, up: boolean): boolean =>
  sys.ioctl(fd, ifr.TUNSETCARRIER, int(up ? 1 : 0)) === 0;

/** Sets the offloads; the argument is passed by value. Returns false if the kernel refuses. */
const setOffloads = (fd: number, flags: number): boolean =>
  sys.ioctlByValue(fd, ifr.TUNSETOFFLOAD, flags) === 0;

/**
 * Sets the MAC if one is wanted and returns the interface's MAC. Uses the TAP's own descriptor,
 * because its holder may set the address even without root. Throws TapError.
 */
export function settleMac(fd: number, name: string, wanted: Uint8Array | undefined): Uint8Array {
  const request = new ifr.Ifreq();
  mustIoctl(fd, ifr.SIOCGIFHWADDR, request.about(name), `the MAC of ${name} can't be read`);
  const had = request.mac;
  if (wanted === undefined || Buffer.compare(had, wanted) === 0) return had;
  request.about(name);
  request.mac = wanted;
  if (sys.ioctl(fd, ifr.SIOCSIFHWADDR, request.bytes) === 0) return wanted;
  const why = sys.errno();
  const text = formatMac(wanted);
  if (isForbidden(why)) {
    throw new TapError(
      "TAP_NO_PERMISSION",
      `${name} has the MAC ${formatMac(had)} and this user may not change it: "sudo ip link set dev ${name} address ${text}"`,
    );
  }
  throw new TapError(
    "TAP_BAD_MAC",
    `the kernel refuses the MAC ${text} for ${name} (${errnoText(why)}): choose a unicast address`,
  );
}

function settleMtu(control: number, name: string, mtu: number | undefined, warn: Warn): void {
  if (mtu === undefined || linkState(control, name)?.mtu === mtu) return;
  const refusal = setMtu(control, name, mtu);
  if (refusal === undefined) return;
  // Traffic works with a wrong MTU, so missing permission is only a warning. An MTU that the kernel
  // refuses for its value is an error of the user.
  if (refusal.code !== "TAP_NO_PERMISSION") throw refusal;
  warn({ tap: name, mtu }, refusal.message);
}

/** Sets the MTU by SIOCSIFMTU. Returns the error, or undefined on success. */
export function setMtu(control: number, name: string, mtu: number): TapError | undefined {
  const request = new ifr.Ifreq();
  request.about(name);
  request.number = mtu;
  if (sys.ioctl(control, ifr.SIOCSIFMTU, request.bytes) === 0) return undefined;
  const why = sys.errno();
  if (isForbidden(why)) {
    return new TapError(
      "TAP_NO_PERMISSION",
      `this user may not change the MTU of ${name}: "sudo ip link set dev ${name} mtu ${mtu}"`,
    );
  }
  if (why === sys.EINVAL) {
    return new TapError("TAP_BAD_MTU", `the kernel refuses an MTU of ${mtu} for ${name}`);
  }
  return failed(`the MTU of ${name} can't be set`, why);
}

/** Returns the state that `ip link` shows, or undefined when this namespace lacks the interface. */
export function linkState(control: number, name: string): TapLink | undefined {
  const request = new ifr.Ifreq();
  if (sys.ioctl(control, ifr.SIOCGIFFLAGS, request.about(name)) !== 0) return undefined;
  const up = (request.flags & ifr.IFF_UP) !== 0;
  if (sys.ioctl(control, ifr.SIOCGIFMTU, request.about(name)) !== 0) return undefined;
  return { mtu: request.number, up };
}

/** Brings up an interface that this process created. The user then only needs "ip addr add". */
export function bringUp(control: number, name: string): void {
  const request = new ifr.Ifreq();
  const flags = request.about(name);
  mustIoctl(control, ifr.SIOCGIFFLAGS, flags, `the flags of ${name} can't be read`);
  request.flags = request.flags | ifr.IFF_UP;
  mustIoctl(control, ifr.SIOCSIFFLAGS, flags, `${name} can't be brought up`);
}

export const failed = (what: string, why: number = sys.errno()): TapError =>
  new TapError("TAP_FAILED", `unexpected: ${what} (${errnoText(why)})`);
