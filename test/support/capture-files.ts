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
}

const timeOf = ({ ns }: WrittenPacket, n: number): bigint => ns ?? BigInt(n) * 1_000_000n;

/** pcap with nanoseconds. `link` is the whole field: link type and what stands above it. */
export function pcapFile(packets: readonly WrittenPacket[], link = 1): Buffer {
  const head = Buffer.alloc(24);
  head.writeUInt32LE(0xa1b23c4d, 0);
  head.writeUInt16LE(2, 4);
  head.writeUInt16LE(4, 6);
  head.writeUInt32LE(262_144, 16);
  head.writeUInt32LE(link, 20);
  const records = packets.flatMap((packet, n) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(Number(timeOf(packet, n) / 1_000_000_000n), 0);
    record.writeUInt32LE(Number(timeOf(packet, n) % 1_000_000_000n), 4);
    record.writeUInt32LE(packet.bytes.length, 8);
    record.writeUInt32LE(packet.original ?? packet.bytes.length, 12);
    return [record, packet.bytes];
  });
  return Buffer.concat([head, ...records]);
}

export interface WrittenInterface {
  readonly link: number;
  /** if_fcslen, as it stands in the file. */
  readonly fcs?: number;
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

function interfaceBlock({ link, fcs }: WrittenInterface): Buffer {
  const fixed = Buffer.alloc(8);
  fixed.writeUInt16LE(link, 0);
  const nanoseconds = option(9, Uint8Array.of(9));
  const options = fcs === undefined ? [nanoseconds] : [nanoseconds, option(13, Uint8Array.of(fcs))];
  return block(1, fixed, ...options, Buffer.alloc(4));
}

function packetBlock(packet: WrittenPacket, n: number): Buffer {
  const { bytes, original = bytes.length, flags, on = 0 } = packet;
  const time = timeOf(packet, n);
  const fixed = Buffer.alloc(20);
  fixed.writeUInt32LE(on, 0);
  fixed.writeUInt32LE(Number(time >> 32n), 4);
  fixed.writeUInt32LE(Number(time & 0xffff_ffffn), 8);
  fixed.writeUInt32LE(bytes.length, 12);
  fixed.writeUInt32LE(original, 16);
  const word = Buffer.alloc(4);
  word.writeUInt32LE(flags ?? 0);
  const options = flags === undefined ? [] : [option(2, word), Buffer.alloc(4)];
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
