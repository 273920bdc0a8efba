/**
 * Packets built the slow and obvious way, and a checksum to check the product's by: nothing here
 * uses the product's header or checksum code.
 */
import { Frame, Gso } from "../../shared/net/frame.ts";

export interface TcpOptions {
  readonly v6?: boolean;
  /** VLAN tags, outermost first: [tpid, tci] each. */
  readonly tags?: readonly (readonly [number, number])[];
  /** A multiple of four bytes. */
  readonly ipOptions?: Uint8Array;
  /** A multiple of four bytes. */
  readonly tcpOptions?: Uint8Array;
  /** IPv6 extension headers: whole ones, of this next-header number, first to last. */
  readonly extensions?: readonly { readonly kind: number; readonly bytes: Uint8Array }[];
  readonly flags?: number;
  readonly sequence?: number;
  readonly acknowledgement?: number;
  readonly window?: number;
  readonly id?: number;
  readonly tos?: number;
  readonly df?: boolean;
  readonly sourcePort?: number;
  readonly payload?: Uint8Array;
  /** "full": complete; "partial": only the pseudo-header's sum, as needsCsum has it. */
  readonly checksum?: "full" | "partial";
  readonly destination?: readonly number[];
  readonly source?: readonly number[];
  /** 6 unless given; 17 makes the same thing with a UDP header. */
  readonly protocol?: 6 | 17;
}

export interface Built {
  readonly bytes: Uint8Array;
  readonly l3: number;
  readonly l4: number;
  readonly payload: number;
}

/** One's-complement sum of 16-bit big-endian words, by the book: the field is its inverse. */
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

export function pseudoHeader(
  packet: Uint8Array,
  l3: number,
  l4: number,
  protocol: number,
): Uint8Array {
  const v6 = packet[l3]! >>> 4 === 6;
  const addresses = v6 ? packet.subarray(l3 + 8, l3 + 40) : packet.subarray(l3 + 12, l3 + 20);
  const tail = Buffer.alloc(8);
  tail.writeUInt32BE(packet.length - l4, 0);
  tail[7] = protocol;
  return Buffer.concat([addresses, tail]);
}

export function buildPacket(o: TcpOptions = {}): Built {
  const tags = o.tags ?? [];
  const payload = o.payload ?? new Uint8Array(0);
  const protocol = o.protocol ?? 6;
  const ether = Buffer.alloc(14 + 4 * tags.length);
  ether.set(o.destination ?? [2, 0, 0, 0, 0, 1], 0);
  ether.set(o.source ?? [2, 0, 0, 0, 0, 2], 6);
  tags.forEach(([tpid, tci], i) => {
    ether.writeUInt16BE(tpid, 12 + 4 * i);
    ether.writeUInt16BE(tci, 14 + 4 * i);
  });
  ether.writeUInt16BE(o.v6 ? 0x86dd : 0x0800, 12 + 4 * tags.length);

  const options = o.tcpOptions ?? new Uint8Array(0);
  const l4 = Buffer.alloc(protocol === 6 ? 20 + options.length : 8);
  l4.writeUInt16BE(o.sourcePort ?? 40000, 0);
  l4.writeUInt16BE(5001, 2);
  if (protocol === 6) {
    l4.writeUInt32BE(o.sequence ?? 1, 4);
    l4.writeUInt32BE(o.acknowledgement ?? 77, 8);
    l4[12] = ((20 + options.length) / 4) << 4;
    l4[13] = o.flags ?? 0x10;
    l4.writeUInt16BE(o.window ?? 500, 14);
    l4.set(options, 20);
  } else {
    l4.writeUInt16BE(8 + payload.length, 4);
  }

  let ip: Buffer;
  if (o.v6) {
    const extensions = o.extensions ?? [];
    const chain = Buffer.concat(extensions.map((e) => e.bytes));
    ip = Buffer.alloc(40 + chain.length);
    ip[0] = 0x60;
    ip.writeUInt16BE(chain.length + l4.length + payload.length, 4);
    ip[6] = extensions[0]?.kind ?? protocol;
    ip[7] = 64;
    ip.set([0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], 8);
    ip.set([0xfd, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0xff], 24);
    let at = 40;
    extensions.forEach((e, i) => {
      ip.set(e.bytes, at);
      ip[at] = extensions[i + 1]?.kind ?? protocol;
      at += e.bytes.length;
    });
  } else {
    const ipOptions = o.ipOptions ?? new Uint8Array(0);
    ip = Buffer.alloc(20 + ipOptions.length);
    ip[0] = 0x40 | (ip.length / 4);
    ip[1] = o.tos ?? 0;
    ip.writeUInt16BE(ip.length + l4.length + payload.length, 2);
    ip.writeUInt16BE(o.id ?? 0, 4);
    ip[6] = (o.df ?? false) ? 0x40 : 0;
    ip[8] = 64;
    ip[9] = protocol;
    ip.set([10, 1, 2, 3], 12);
    ip.set([10, 200, 100, 255], 16);
    ip.set(ipOptions, 20);
    ip.writeUInt16BE(~plainSum(ip) & 0xffff, 10);
  }

  const bytes = Uint8Array.from(Buffer.concat([ether, ip, l4, payload]));
  const l3At = ether.length;
  const l4At = l3At + ip.length;
  const field = l4At + (protocol === 6 ? 16 : 6);
  const pseudo = pseudoHeader(bytes, l3At, l4At, protocol);
  let sum = plainSum(pseudo);
  if ((o.checksum ?? "full") === "full") {
    sum = ~plainSum(pseudo, bytes.subarray(l4At)) & 0xffff;
    if (sum === 0 && protocol === 17) sum = 0xffff;
  }
  bytes[field] = sum >>> 8;
  bytes[field + 1] = sum & 0xff;
  return { bytes, l3: l3At, l4: l4At, payload: l4At + l4.length };
}

/** A frame over `bytes`, cut into spans of the given lengths and one of what is left. */
export function frameOf(bytes: Uint8Array, cuts: readonly number[] = []): Frame {
  const frame = new Frame();
  let at = 0;
  for (const cut of cuts) {
    const n = Math.min(cut, bytes.length - at);
    // Each span in memory of its own, at an offset of its own.
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

/** The facts of a frame that has none to tell. */
export const NO_FACTS = {
  needsCsum: false,
  csumStart: 0,
  csumOffset: 0,
  csumValid: false,
  gso: Gso.NONE as Gso,
  gsoEcn: false,
  gsoSize: 0,
  headerLength: 0,
};
export type FrameFacts = Readonly<typeof NO_FACTS>;

/** What a frame says beside its bytes. */
export function factsOf(frame: Frame): FrameFacts {
  const facts = { ...NO_FACTS };
  for (const key of Object.keys(NO_FACTS) as (keyof FrameFacts)[]) {
    Object.assign(facts, { [key]: frame[key] });
  }
  return facts;
}
