/**
 * Capture files written by hand, little-endian, for tests of what reads them: none of the
 * product's layouts takes part.
 */

export interface WrittenPacket {
  readonly bytes: Uint8Array;
  /** Bytes on the wire; those of `bytes` when not given. */
  readonly original?: number;
  /** Nanoseconds since 1970; the packet's number in milliseconds when not given. */
  readonly ns?: bigint;
  /** pcapng only: epb_flags, and the number of the interface. */
  readonly flags?: number;
  readonly on?: number;
  /** pcapng only: epb_packetid. */
  readonly id?: bigint;
}

const timeOf = ({ ns }: WrittenPacket, n: number): bigint => ns ?? BigInt(n) * 1_000_000n;

/** How a pcap file differs from the usual one, which is version 2.4 with nanoseconds, little-endian. */
export interface PcapKind {
  readonly magic?: number;
  readonly version?: readonly [major: number, minor: number];
  /** Nanoseconds of a unit of the fraction. */
  readonly unitNs?: bigint;
  /** Original length in front of the captured one. */
  readonly swapped?: boolean;
  readonly big?: boolean;
  /** Behind the file's header, and behind each record's. */
  readonly fileTail?: Uint8Array;
  readonly recordTail?: Uint8Array;
}

/** pcap. `link` is the whole field: link type and what stands above it. */
export function pcapFile(packets: readonly WrittenPacket[], link = 1, kind: PcapKind = {}): Buffer {
  const { magic = 0xa1b23c4d, version = [2, 4], unitNs = 1n, swapped = false, big = false } = kind;
  const { fileTail = new Uint8Array(0), recordTail = new Uint8Array(0) } = kind;
  const u32 = (buffer: Buffer, value: number, at: number): void => {
    if (big) buffer.writeUInt32BE(value, at);
    else buffer.writeUInt32LE(value, at);
  };
  const head = Buffer.alloc(24);
  u32(head, magic, 0);
  const [major, minor] = version;
  u32(head, big ? major * 0x10000 + minor : minor * 0x10000 + major, 4);
  u32(head, 262_144, 16);
  u32(head, link, 20);
  const records = packets.flatMap((packet, n) => {
    const record = Buffer.alloc(16);
    const lengths = [packet.bytes.length, packet.original ?? packet.bytes.length];
    if (swapped) lengths.reverse();
    u32(record, Number(timeOf(packet, n) / 1_000_000_000n), 0);
    u32(record, Number((timeOf(packet, n) % 1_000_000_000n) / unitNs), 4);
    u32(record, lengths[0]!, 8);
    u32(record, lengths[1]!, 12);
    return [record, recordTail, packet.bytes];
  });
  return Buffer.concat([head, fileTail, ...records]);
}

export interface WrittenInterface {
  readonly link: number;
  /** if_fcslen, as it stands in the file. */
  readonly fcs?: number;
  readonly name?: string;
  /** Bytes of if_tsresol and if_tsoffset, when they are not the usual one. */
  readonly tsresol?: Uint8Array;
  readonly tsoffset?: Uint8Array;
}

const ETHERNET: readonly WrittenInterface[] = [{ link: 1 }];

/** pcapng of one section, with nanoseconds. */
export function pcapngFile(packets: readonly WrittenPacket[], interfaces = ETHERNET): Buffer {
  const section = Buffer.from("4d3c2b1a01000000ffffffffffffffff", "hex");
  return Buffer.concat([
    block(0x0a0d0d0a, section),
    ...interfaces.map(interfaceBlock),
    ...packets.map(packetBlock),
  ]);
}

function interfaceBlock({ link, fcs, name, tsresol, tsoffset }: WrittenInterface): Buffer {
  const fixed = Buffer.alloc(8);
  fixed.writeUInt16LE(link, 0);
  const options = [option(9, tsresol ?? Uint8Array.of(9))];
  if (tsoffset !== undefined) options.push(option(14, tsoffset));
  if (fcs !== undefined) options.push(option(13, Uint8Array.of(fcs)));
  if (name !== undefined) options.push(option(2, Buffer.from(name)));
  return block(1, fixed, ...options, Buffer.alloc(4));
}

function packetBlock(packet: WrittenPacket, n: number): Buffer {
  const { bytes, original = bytes.length, flags, on = 0, id } = packet;
  const time = timeOf(packet, n);
  const fixed = Buffer.alloc(20);
  fixed.writeUInt32LE(on, 0);
  fixed.writeUInt32LE(Number(time >> 32n), 4);
  fixed.writeUInt32LE(Number(time & 0xffff_ffffn), 8);
  fixed.writeUInt32LE(bytes.length, 12);
  fixed.writeUInt32LE(original, 16);
  const word = Buffer.alloc(4);
  word.writeUInt32LE(flags ?? 0);
  const options = flags === undefined ? [] : [option(2, word)];
  if (id !== undefined) {
    const number = Buffer.alloc(8);
    number.writeBigUInt64LE(id);
    options.push(option(5, number));
  }
  if (options.length > 0) options.push(Buffer.alloc(4));
  return block(6, fixed, padded(bytes), ...options);
}

function block(type: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  const ends = Buffer.alloc(8);
  ends.writeUInt32LE(type, 0);
  ends.writeUInt32LE(body.length + 12, 4);
  return Buffer.concat([ends, body, ends.subarray(4)]);
}

function option(code: number, value: Uint8Array): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(code, 0);
  head.writeUInt16LE(value.length, 2);
  return Buffer.concat([head, padded(value)]);
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
