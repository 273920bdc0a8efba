/**
 * Reads pcapng: both byte orders, any number of sections, all packet blocks, every option. Blocks
 * of unknown types are skipped. If a file ends within a block, the whole blocks can be read.
 *
 * Source: draft-ietf-opsawg-pcapng.
 */
import { type Block, comments, nextBlock, optionText, text } from "./block-reader.ts";
import {
  BlockType,
  EPB_CAPTURED,
  EPB_DATA,
  EPB_INTERFACE,
  EPB_ORIGINAL,
  EPB_TIME_HIGH,
  EpbOption,
  FILTER_TEXT,
  IDB_LINK_TYPE,
  IDB_OPTIONS,
  IDB_SNAP_LENGTH,
  IdbOption,
  ISB_INTERFACE,
  ISB_OPTIONS,
  ISB_TIME_HIGH,
  IsbOption,
  NRB_RECORDS,
  NrbRecord,
  OPTION_CODE,
  OPTION_HEADER_BYTES,
  OPTION_LENGTH,
  PB_DROPS,
  PB_DROPS_UNKNOWN,
  padded,
  SHB_MAJOR,
  SHB_OPTIONS,
  ShbOption,
  SPB_DATA,
  SPB_ORIGINAL,
  TS_DEFAULT,
} from "./layout.ts";
import {
  type CapturedInterface,
  type CapturedPacket,
  CaptureFormatError,
  type CaptureOption,
  PacketReader,
  plainPacket,
} from "./packet.ts";

/** The machine and the program that wrote the file, from a section header. */
export interface CaptureSection {
  readonly hardware: string | undefined;
  readonly os: string | undefined;
  readonly application: string | undefined;
  readonly options: readonly CaptureOption[];
}

/** Names of an address, and its bytes: 4 or 16 for IP, 6 or 8 for Ethernet. */
export interface CaptureName {
  readonly address: Uint8Array;
  readonly names: readonly string[];
}

/** Statistics of an interface. Missing counts are undefined. Times are nanoseconds since 1970. */
export interface CaptureStatistics {
  readonly interface: CapturedInterface;
  readonly tsNs: bigint;
  readonly startNs: bigint | undefined;
  readonly endNs: bigint | undefined;
  readonly received: bigint | undefined;
  readonly dropped: bigint | undefined;
  readonly accepted: bigint | undefined;
  readonly osDropped: bigint | undefined;
  readonly delivered: bigint | undefined;
  readonly options: readonly CaptureOption[];
}

/** The clock of an interface: ticks per second, and seconds to add. */
interface Clock {
  readonly ticks: bigint;
  readonly offset: bigint;
}

interface Described {
  readonly info: CapturedInterface;
  readonly clock: Clock;
}

export class PcapngReader extends PacketReader {
  /**
   * The contents of all blocks so far that are not packets. A caller that reads without end empties
   * `names` and `statistics` from time to time.
   */
  readonly sections: CaptureSection[] = [];
  readonly interfaces: CapturedInterface[] = [];
  readonly names: CaptureName[] = [];
  readonly statistics: CaptureStatistics[] = [];
  /** Number of skipped blocks: unknown types and malformed statistics. No packet needs them. */
  skipped = 0;

  #little = true;
  /** Interfaces of this section, by number. */
  #described: Described[] = [];

  next(): CapturedPacket | undefined {
    for (;;) {
      const block = nextBlock(this.input, this.#little);
      if (block === undefined) return undefined;
      this.#little = block.little;
      const packet = this.#understand(block);
      if (packet !== undefined) return packet;
    }
  }

  #understand(block: Block): CapturedPacket | undefined {
    switch (block.type) {
      case BlockType.SECTION:
        this.#section(block.copy());
        return undefined;
      case BlockType.INTERFACE:
        this.#interface(block.copy());
        return undefined;
      case BlockType.NAMES:
        this.#names(block.copy());
        return undefined;
      case BlockType.STATISTICS:
        this.#tryStatistics(block.copy());
        return undefined;
      case BlockType.ENHANCED_PACKET:
      case BlockType.PACKET:
        return this.#packet(block);
      case BlockType.SIMPLE_PACKET:
        return this.#simplePacket(block);
      default:
        this.skipped++;
        return undefined;
    }
  }

  #section(block: Block): void {
    block.atLeast(SHB_OPTIONS);
    if (block.u16(SHB_MAJOR) !== 1) {
      throw block.fail("VERSION", `pcapng of version ${block.u16(SHB_MAJOR)}`);
    }
    const options = block.options(SHB_OPTIONS);
    this.#described = [];
    this.sections.push({
      hardware: optionText(options, ShbOption.HARDWARE),
      os: optionText(options, ShbOption.OS),
      application: optionText(options, ShbOption.APPLICATION),
      options,
    });
  }

  #interface(block: Block): void {
    block.atLeast(IDB_OPTIONS);
    const options = block.options(IDB_OPTIONS);
    const option = (code: number) => options.find((candidate) => candidate.code === code)?.bytes;
    // Options of an unexpected length are ignored, as in Wireshark.
    const resolution = option(IdbOption.TS_RESOLUTION);
    const offset = option(IdbOption.TS_OFFSET);
    const filter = option(IdbOption.FILTER);
    const mac = option(IdbOption.MAC);
    const info: CapturedInterface = {
      index: this.interfaces.length,
      linkType: block.u16(IDB_LINK_TYPE),
      snapLength: block.u32(IDB_SNAP_LENGTH),
      name: optionText(options, IdbOption.NAME),
      description: optionText(options, IdbOption.DESCRIPTION),
      mac: mac?.length === 6 ? mac : undefined,
      fcsBytes: fcsBytes(option(IdbOption.FCS_LENGTH)),
      filter: filter?.[0] === FILTER_TEXT ? text(filter.subarray(1)) : undefined,
      options,
    };
    const seconds = offset?.length === 8 ? block.number(options, IdbOption.TS_OFFSET, 8) : 0n;
    const clock = {
      ticks: ticksPerSecond(resolution?.length === 1 ? resolution[0]! : TS_DEFAULT),
      offset: BigInt.asIntN(64, seconds ?? 0n),
    };
    this.interfaces.push(info);
    this.#described.push({ info, clock });
  }

  #names(block: Block): void {
    const { end } = block;
    let at = NRB_RECORDS;
    while (at + OPTION_HEADER_BYTES <= end) {
      const type = block.u16(at + OPTION_CODE);
      const length = block.u16(at + OPTION_LENGTH);
      if (type === NrbRecord.END) return;
      at += OPTION_HEADER_BYTES;
      if (length > end - at) throw block.fail("OPTION", `a name record of ${length} bytes`);
      const bytes = block.bytes.subarray(at, at + length);
      const addressBytes = ADDRESS_BYTES[type];
      if (addressBytes !== undefined) {
        if (length < addressBytes) throw block.fail("OPTION", `a name record of ${length} bytes`);
        this.names.push({
          address: bytes.subarray(0, addressBytes),
          names: splitNames(bytes.subarray(addressBytes)),
        });
      }
      at += padded(length);
    }
    // Some writers omit the record that ends the list.
  }

  #tryStatistics(block: Block): void {
    try {
      this.#statistics(block);
    } catch (error) {
      if (!(error instanceof CaptureFormatError)) throw error;
      this.skipped++;
    }
  }

  #statistics(block: Block): void {
    block.atLeast(ISB_OPTIONS);
    const { info, clock } = this.#find(block, block.u32(ISB_INTERFACE));
    const options = block.options(ISB_OPTIONS);
    const count = (code: number) => block.number(options, code, 8);
    const time = (code: number): bigint | undefined => {
      if (block.number(options, code, 8) === undefined) return undefined;
      const { bytes } = options.find((candidate) => candidate.code === code)!;
      return nanoseconds(clock, block.time(bytes.byteOffset - block.bytes.byteOffset));
    };
    this.statistics.push({
      interface: info,
      tsNs: nanoseconds(clock, block.time(ISB_TIME_HIGH)),
      startNs: time(IsbOption.START_TIME),
      endNs: time(IsbOption.END_TIME),
      received: count(IsbOption.RECEIVED),
      dropped: count(IsbOption.DROPPED),
      accepted: count(IsbOption.FILTER_ACCEPTED),
      osDropped: count(IsbOption.OS_DROPPED),
      delivered: count(IsbOption.DELIVERED),
      options,
    });
  }

  /** An Enhanced Packet Block, or an obsolete Packet Block. They differ in the first word. */
  #packet(block: Block): CapturedPacket {
    block.atLeast(EPB_DATA);
    const old = block.type === BlockType.PACKET;
    const number = old ? block.u16(EPB_INTERFACE) : block.u32(EPB_INTERFACE);
    const { info, clock } = this.#find(block, number);
    const captured = block.u32(EPB_CAPTURED);
    if (captured > block.end - EPB_DATA) {
      throw block.fail("PACKET_LENGTH", `a packet of ${captured} bytes in a shorter block`);
    }
    const options = block.options(EPB_DATA + padded(captured));
    const oldDrops = old ? block.u16(PB_DROPS) : PB_DROPS_UNKNOWN;
    return {
      interface: info,
      linkType: info.linkType,
      tsNs: nanoseconds(clock, block.time(EPB_TIME_HIGH)),
      capturedLength: captured,
      originalLength: block.u32(EPB_ORIGINAL),
      bytes: block.bytes.subarray(EPB_DATA, EPB_DATA + captured),
      flags: block.number(options, EpbOption.FLAGS, 4) ?? 0,
      queue: old ? undefined : block.number(options, EpbOption.QUEUE, 4),
      id: old ? undefined : block.number(options, EpbOption.PACKET_ID, 8),
      drops: old
        ? oldDrops === PB_DROPS_UNKNOWN
          ? undefined
          : BigInt(oldDrops)
        : block.number(options, EpbOption.DROP_COUNT, 8),
      comments: comments(options),
      options,
    };
  }

  #simplePacket(block: Block): CapturedPacket {
    block.atLeast(SPB_DATA);
    const { info } = this.#find(block, 0);
    const original = block.u32(SPB_ORIGINAL);
    const captured = info.snapLength === 0 ? original : Math.min(original, info.snapLength);
    if (captured > block.end - SPB_DATA) {
      throw block.fail("PACKET_LENGTH", `a packet of ${captured} bytes in a shorter block`);
    }
    const bytes = block.bytes.subarray(SPB_DATA, SPB_DATA + captured);
    return plainPacket(info, undefined, original, bytes);
  }

  #find(block: Block, number: number): Described {
    const described = this.#described[number];
    if (described === undefined) {
      throw block.fail("INTERFACE", `interface ${number} of ${this.#described.length}`);
    }
    return described;
  }
}

const ADDRESS_BYTES: readonly (number | undefined)[] = [undefined, 4, 16, 6, 8];

/** if_tsresol. The top bit tells whether the other bits are a power of two or of ten. */
function ticksPerSecond(resolution: number): bigint {
  const power = BigInt(resolution & 0x7f);
  return (resolution & 0x80) === 0 ? 10n ** power : 2n ** power;
}

/**
 * Returns if_fcslen in bytes. Writers disagree on its unit: the draft says bits, but shows a 4 for
 * the four bytes of Ethernet. No link has a check sequence of seven bits or fewer, nor of eight
 * bytes or more.
 */
function fcsBytes(option: Uint8Array | undefined): number | undefined {
  if (option?.length !== 1) return undefined;
  const length = option[0]!;
  return length < 8 ? length : Math.ceil(length / 8);
}

function nanoseconds(clock: Clock, ticks: bigint): bigint {
  return (ticks * 1_000_000_000n) / clock.ticks + clock.offset * 1_000_000_000n;
}

function splitNames(bytes: Uint8Array): string[] {
  const names: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(0, at);
    names.push(text(bytes.subarray(at, end < 0 ? bytes.length : end)));
    at = end < 0 ? bytes.length : end + 1;
  }
  return names;
}
