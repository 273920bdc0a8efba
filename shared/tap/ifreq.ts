/**
 * Byte layout of struct ifreq, the argument of the interface ioctls, and their numbers.
 *
 *   0           16       18                24          40
 *   | ifr_name  | flags i16, mtu i32, or sockaddr ...  |
 *               | family | hardware address |
 *
 * Source: linux: include/uapi/linux/if.h "struct ifreq"; include/uapi/linux/sockios.h;
 * include/uapi/linux/if_tun.h. Fields have the machine's byte order. The ioctl numbers are those of
 * x86 and ARM. mips, powerpc and sparc encode the direction otherwise and are not supported.
 */
import { endianness } from "node:os";

const NAME = 0;
const NAME_BYTES = 16;
const UNION = 16;
const MAC = UNION + 2;
const MAC_BYTES = 6;
export const IFREQ_BYTES = 40;
export const NATIVE_LE = endianness() === "LE";

// sockios.h
export const SIOCGIFFLAGS = 0x8913;
export const SIOCSIFFLAGS = 0x8914;
export const SIOCGIFMTU = 0x8921;
export const SIOCSIFMTU = 0x8922;
export const SIOCSIFHWADDR = 0x8924;
export const SIOCGIFHWADDR = 0x8927;
export const SIOCGIFINDEX = 0x8933;
// if_tun.h
export const TUNSETIFF = 0x4004_54ca;
export const TUNSETLINK = 0x4004_54cd;
export const TUNSETOFFLOAD = 0x4004_54d0;
export const TUNSETTXFILTER = 0x4004_54d1;
export const TUNGETIFF = 0x8004_54d2;
export const TUNSETVNETHDRSZ = 0x4004_54d8;
export const TUNSETVNETLE = 0x4004_54dc;
export const TUNSETSTEERINGEBPF = 0x8004_54e0;
export const TUNSETFILTEREBPF = 0x8004_54e1;
export const TUNSETCARRIER = 0x4004_54e2;
export const TUNGETDEVNETNS = 0x54e3;
// if.h, ifr_flags
export const IFF_UP = 0x1;
// if_tun.h, flags of TUNSETIFF and TUNGETIFF
export const IFF_TAP = 0x0002;
/** Supported since Linux 6.3, ignored by older kernels. */
export const IFF_NO_CARRIER = 0x0040;
export const IFF_MULTI_QUEUE = 0x0100;
export const IFF_PERSIST = 0x0800;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;
// if_tun.h, argument of TUNSETOFFLOAD
export const TUN_F_CSUM = 0x01;
export const TUN_F_TSO4 = 0x02;
export const TUN_F_TSO6 = 0x04;
export const TUN_F_TSO_ECN = 0x08;
// if_arp.h
export const ARPHRD_ETHER = 1;

/** One ifreq in its own memory, reused for all calls. */
export class Ifreq {
  readonly bytes = new Uint8Array(IFREQ_BYTES);
  readonly #view = new DataView(this.bytes.buffer);

  /** Starts a request about `name` and zeroes the other fields. Returns the bytes for the ioctl. */
  about(name: string): Uint8Array {
    this.bytes.fill(0);
    new TextEncoder().encodeInto(name, this.bytes.subarray(NAME, NAME_BYTES - 1));
    return this.bytes;
  }

  get name(): string {
    const end = this.bytes.indexOf(0);
    return new TextDecoder().decode(this.bytes.subarray(NAME, Math.min(end, NAME_BYTES - 1)));
  }

  get flags(): number {
    return this.#view.getUint16(UNION, NATIVE_LE);
  }
  set flags(flags: number) {
    this.#view.setUint16(UNION, flags, NATIVE_LE);
  }

  /** ifr_mtu, and every other field of one int. */
  get number(): number {
    return this.#view.getInt32(UNION, NATIVE_LE);
  }
  set number(n: number) {
    this.#view.setInt32(UNION, n, NATIVE_LE);
  }

  /** The link type (ARPHRD_...): sa_family of ifr_hwaddr. */
  get linkType(): number {
    return this.flags;
  }

  /** A copy of the six bytes of ifr_hwaddr. */
  get mac(): Uint8Array {
    return this.bytes.slice(MAC, MAC + MAC_BYTES);
  }
  set mac(mac: Uint8Array) {
    this.#view.setUint16(UNION, ARPHRD_ETHER, NATIVE_LE);
    this.bytes.set(mac.subarray(0, MAC_BYTES), MAC);
  }
}
