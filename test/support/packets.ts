/**
 * Builds packets and computes checksums in a slow and obvious way, to check the product's code.
 * Nothing here uses the product's header or checksum code.
 */
import { Frame } from "../../shared/net/frame.ts";

const NOTHING: Uint8Array = new Uint8Array(0);

const DEFAULTS = {
  v6: false,
  /** VLAN tags, outermost first: [tpid, tci] each. */
  tags: [] as readonly (readonly [number, number])[],
  /** Length must be a multiple of four bytes. */
  ipOptions: NOTHING,
  /** Length must be a multiple of four bytes. */
  tcpOptions: NOTHING,
  /** IPv6 extension headers in order, each complete and with its own next-header number. */
  extensions: [] as readonly { readonly kind: number; readonly bytes: Uint8Array }[],
  flags: 0x10,
  sequence: 1,
  acknowledgement: 77,
  window: 500,
  id: 0,
  tos: 0,
  df: false,
  sourcePort: 40000,
  destinationPort: 5001,
  /** IPv4 addresses: source, then destination. */
  addresses: [10, 1, 2, 3, 10, 200, 100, 255] as readonly number[],
  payload: NOTHING,
  /** "full": complete; "partial": only the pseudo-header's sum, as needsCsum requires. */
  checksum: "full" as "full" | "partial",
  destination: [2, 0, 0, 0, 0, 1] as readonly number[],
  source: [2, 0, 0, 0, 0, 2] as readonly number[],
  /** 17 builds a UDP header in place of the TCP header. */
  protocol: 6 as 6 | 17,
};
export type TcpOptions = Readonly<Partial<typeof DEFAULTS>>;

export interface Built {
  readonly bytes: Uint8Array;
  readonly l3: number;
  readonly l4: number;
  readonly payload: number;
}

/** One's-complement sum of 16-bit big-endian words. A checksum field holds its inverse. */
export function plainSum(...parts: Uint8Array[]): number {
  const all = Buffer.concat(
    parts.map((part) => (part.length % 2 ? Buffer.concat([part, Buffer.of(0)]) : part)),
  );
  let sum = 0;
  for (let i = 0; i < all.length; i += 2) {
    sum += all.readUInt16BE(i);
    if (sum > 0xffff) sum = (sum & 0xffff) + 1;
  }
  return sum;
}

/** 16-bit big-endian words. */
const words = (...values: readonly number[]): Buffer =>
  Buffer.from(values.flatMap((value) => [value >>> 8, value & 0xff]));

const high = (value: number): number => value >>> 16;
const low = (value: number): number => value & 0xffff;

export function pseudoHeader(
  packet: Uint8Array,
  l3: number,
  l4: number,
  protocol: number,
): Uint8Array {
  const v6 = packet[l3]! >>> 4 === 6;
  const addresses = v6 ? packet.subarray(l3 + 8, l3 + 40) : packet.subarray(l3 + 12, l3 + 20);
  const length = packet.length - l4;
  return Buffer.concat([addresses, words(high(length), low(length), 0, protocol)]);
}

export function buildPacket(options: TcpOptions = {}): Built {
  const o = { ...DEFAULTS, ...options };
  const { v6, payload, protocol, extensions, ipOptions, tcpOptions, sequence } = o;
  const ack = o.acknowledgement;
  const ether = Buffer.concat([
    Buffer.of(...o.destination, ...o.source),
    words(...o.tags.flat(), v6 ? 0x86dd : 0x0800),
  ]);

  const ports = words(o.sourcePort, o.destinationPort);
  const l4 =
    protocol === 17
      ? Buffer.concat([ports, words(8 + payload.length, 0)])
      : Buffer.concat([
          ports,
          words(high(sequence), low(sequence), high(ack), low(ack)),
          words(((20 + tcpOptions.length) << 10) | o.flags, o.window, 0, 0),
          tcpOptions,
        ]);

  const upper = l4.length + payload.length;
  let ip: Buffer;
  if (v6) {
    const kinds = [...extensions.map((e) => e.kind), protocol];
    const chain = extensions.flatMap(({ bytes }, i) => [kinds[i + 1]!, ...bytes.subarray(1)]);
    ip = Buffer.concat([
      words(0x6000, 0, chain.length + upper, (kinds[0]! << 8) | 64),
      Buffer.of(0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
      Buffer.of(0xfd, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0xff),
      Buffer.from(chain),
    ]);
  } else {
    const bytes = 20 + ipOptions.length;
    ip = Buffer.concat([
      words(0x4000 | (bytes << 6) | o.tos, bytes + upper, o.id, o.df ? 0x4000 : 0),
      words((64 << 8) | protocol, 0),
      Buffer.from(o.addresses),
      ipOptions,
    ]);
    ip.writeUInt16BE(low(~plainSum(ip)), 10);
  }

  const bytes = Uint8Array.from(Buffer.concat([ether, ip, l4, payload]));
  const l3At = ether.length;
  const l4At = l3At + ip.length;
  const pseudo = pseudoHeader(bytes, l3At, l4At, protocol);
  let sum = plainSum(pseudo);
  if (o.checksum === "full") {
    sum = low(~plainSum(pseudo, bytes.subarray(l4At)));
    if (sum === 0 && protocol === 17) sum = 0xffff;
  }
  bytes.set(words(sum), l4At + (protocol === 6 ? 16 : 6));
  return { bytes, l3: l3At, l4: l4At, payload: l4At + l4.length };
}

/** A frame over `bytes`, in spans of the given lengths and a last span of the rest. */
export function frameOf(bytes: Uint8Array, cuts: readonly number[] = []): Frame {
  const frame = new Frame();
  let at = 0;
  for (const cut of cuts) {
    const n = Math.min(cut, bytes.length - at);
    // Each span lies in a memory of its own, at an offset of its own.
    const memory = new Uint8Array(n + 3);
    memory.set(bytes.subarray(at, at + n), frame.count % 4);
    if (n > 0 && !frame.push(memory, frame.count % 4, n)) throw new Error("too many cuts");
    at += n;
  }
  if (at < bytes.length && !frame.push(bytes, at, bytes.length - at))
    throw new Error("too many cuts");
  return frame;
}

export function bytesOf(frame: Frame): Uint8Array {
  const bytes = new Uint8Array(frame.length);
  frame.copyTo(bytes, 0, 0, frame.length);
  return bytes;
}

/** The facts of a frame: everything except its bytes. */
export function factsOf(frame: Frame) {
  const { needsCsum, csumStart, csumOffset, csumValid, gso, gsoEcn, gsoSize, headerLength } = frame;
  return { needsCsum, csumStart, csumOffset, csumValid, gso, gsoEcn, gsoSize, headerLength };
}
export type FrameFacts = Readonly<ReturnType<typeof factsOf>>;
/** The facts of a frame without offloads. */
export const NO_FACTS: FrameFacts = factsOf(new Frame());
