/** Builds little-endian capture files without the product's layouts, for tests of readers. */

export interface WrittenPacket {
  readonly bytes: Uint8Array;
  /** Bytes on the wire; defaults to the length of `bytes`. */
  readonly original?: number;
  /** Nanoseconds since 1970; defaults to the packet's number in milliseconds. */
  readonly ns?: bigint;
  /** pcapng only: epb_flags, and the number of the interface. */
  readonly flags?: number;
  readonly on?: number;
  /** pcapng only: epb_packetid. */
  readonly id?: bigint;
}

const timeOf = ({ ns }: WrittenPacket, n: number): bigint => ns ?? BigInt(n) * 1_000_000n;

/** How a pcap file differs from the usual kind: version 2.4, nanoseconds, little-endian. */
export interface PcapKind {
  readonly magic?: number;
  readonly version?: readonly [major: number, minor: number];
  /** Nanoseconds per unit of the fraction. */
  readonly unitNs?: bigint;
  /** The original length stands before the captured length. */
  readonly swapped?: boolean;
  readonly big?: boolean;
  /** Extra bytes after the file's header, and after each record's header. */
  readonly fileTail?: Uint8Array;
  readonly recordTail?: Uint8Array;
}

/** A pcap file. `link` is the whole field: the link type and the bits above it. */
export function pcapFile(packets: readonly WrittenPacket[], link = 1, kind: PcapKind = {}): Buffer {
  const { magic = 0xa1b23c4d, version = [2, 4], unitNs = 1n, swapped = false, big = false } = kind;
  const { fileTail = new Uint8Array(0), recordTail = new Uint8Array(0) } = kind;
  const words = (...values: readonly number[]): Buffer => {
    const bytes = Buffer.alloc(4 * values.length);
    for (const [i, value] of values.entries()) {
      if (big) bytes.writeUInt32BE(value, 4 * i);
      else bytes.writeUInt32LE(value, 4 * i);
    }
    return bytes;
  };
  const [major, minor] = version;
  const versions = big ? major * 0x10000 + minor : minor * 0x10000 + major;
  const records = packets.flatMap((packet, n) => {
    const { bytes, original = bytes.length } = packet;
    const lengths = swapped ? [original, bytes.length] : [bytes.length, original];
    const ns = timeOf(packet, n);
    const time = [ns / 1_000_000_000n, (ns % 1_000_000_000n) / unitNs].map(Number);
    return [words(...time, ...lengths), recordTail, bytes];
  });
  return Buffer.concat([words(magic, versions, 0, 0, 262_144, link), fileTail, ...records]);
}

export interface WrittenInterface {
  readonly link: number;
  /** The value of option if_fcslen. */
  readonly fcs?: number;
  readonly name?: string;
  /** Bytes of options if_tsresol and if_tsoffset; the defaults when absent. */
  readonly tsresol?: Uint8Array;
  readonly tsoffset?: Uint8Array;
}

const ETHERNET: readonly WrittenInterface[] = [{ link: 1 }];

/** A pcapng file of one section, with nanoseconds. */
export function pcapngFile(packets: readonly WrittenPacket[], interfaces = ETHERNET): Buffer {
  const section = Buffer.from("4d3c2b1a01000000ffffffffffffffff", "hex");
  return Buffer.concat([
    block(0x0a0d0d0a, section),
    ...interfaces.map(interfaceBlock),
    ...packets.map(packetBlock),
  ]);
}

function interfaceBlock({ link, fcs, name, tsresol, tsoffset }: WrittenInterface): Buffer {
  const options = [option(9, tsresol ?? Uint8Array.of(9))];
  if (tsoffset !== undefined) options.push(option(14, tsoffset));
  if (fcs !== undefined) options.push(option(13, Uint8Array.of(fcs)));
  if (name !== undefined) options.push(option(2, Buffer.from(name)));
  return block(1, le(8, link), ...options, Buffer.alloc(4));
}

function packetBlock(packet: WrittenPacket, n: number): Buffer {
  const { bytes, original = bytes.length, flags, on = 0, id } = packet;
  const time = timeOf(packet, n);
  const fixed = [on, time >> 32n, time & 0xffff_ffffn, bytes.length, original];
  const options = flags === undefined ? [] : [option(2, le(4, flags))];
  if (id !== undefined) options.push(option(5, le(8, id)));
  if (options.length > 0) options.push(Buffer.alloc(4));
  return block(6, ...fixed.map((value) => le(4, value)), padded(bytes), ...options);
}

function block(type: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  const length = le(4, body.length + 12);
  return Buffer.concat([le(4, type), length, body, length]);
}

const option = (code: number, value: Uint8Array): Buffer =>
  Buffer.concat([le(2, code), le(2, value.length), padded(value)]);

/** A little-endian number of `size` bytes. */
function le(size: number, value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes.subarray(0, size);
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
