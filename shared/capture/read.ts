/** Capture files of either format, told apart by their first word. */
import { type FileHandle, open } from "node:fs/promises";
import { isPcapMagic, PcapReader } from "./pcap-reader.ts";
import { BlockType } from "./pcapng/layout.ts";
import { type CapturedPacket, CaptureFormatError, type PacketReader } from "./pcapng/packet.ts";
import { PcapngReader } from "./pcapng/reader.ts";

const CHUNK_BYTES = 1024 * 1024;
const MAGIC_BYTES = 4;

/** A reader for what begins with `head` (four bytes or more). Throws CaptureFormatError. */
export function readerFor(head: Uint8Array): PcapReader | PcapngReader {
  if (head.length < MAGIC_BYTES) {
    throw new CaptureFormatError("FORMAT", 0, `${head.length} bytes are no capture file`);
  }
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  if (view.getUint32(0) === BlockType.SECTION) return new PcapngReader();
  if (isPcapMagic(view.getUint32(0)) || isPcapMagic(view.getUint32(0, true))) {
    return new PcapReader();
  }
  throw new CaptureFormatError("FORMAT", 0, "neither pcap nor pcapng");
}

/**
 * The packets of a file in memory, as views of it. A file that ends within a packet ends in front
 * of that packet. Throws CaptureFormatError where it stops making sense.
 */
export function* readCapture(bytes: Uint8Array): Generator<CapturedPacket, void, undefined> {
  const reader = readerFor(bytes);
  reader.feed(bytes);
  yield* packets(reader);
}

/** What `readCaptureFile` gives when it is through: bytes behind the last whole packet. */
export interface ReadEnd {
  readonly cutBytes: number;
}

/** The packets of a file on disk; besides CaptureFormatError it throws what the file system says. */
export async function* readCaptureFile(
  path: string,
): AsyncGenerator<CapturedPacket, ReadEnd, undefined> {
  const file = await CaptureFileReader.open(path);
  try {
    while (await file.more()) yield* packets(file);
    return { cutBytes: file.pending };
  } finally {
    await file[Symbol.asyncDispose]();
  }
}

/**
 * The packets of a file on disk, for whoever takes many of them without a promise each: `next`
 * until it has none, then `more`. A chunk is in memory, and packets somebody still holds.
 */
export class CaptureFileReader implements AsyncDisposable {
  readonly #path: string;
  #file: FileHandle;
  #reader: PacketReader | undefined;
  #bytes = 0;

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  /** Rejects with what the file system says. */
  static async open(path: string): Promise<CaptureFileReader> {
    return new CaptureFileReader(path, await open(path, "r"));
  }

  /** Bytes read so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes behind the last whole packet: at the end of the file, those that were cut off. */
  get pending(): number {
    return this.#reader?.pending ?? 0;
  }

  /** The next packet of what was read; undefined: call `more`. Throws CaptureFormatError. */
  next(): CapturedPacket | undefined {
    return this.#reader?.next();
  }

  /**
   * Reads on. False at the end of the file. Rejects with CaptureFormatError when the file is no
   * capture at all, and with what the file system says.
   */
  async more(): Promise<boolean> {
    // A chunk of its own each time: packets are views of it.
    const chunk = new Uint8Array(CHUNK_BYTES);
    let have = 0;
    // A pipe may give less than the word that tells the formats apart.
    do {
      const { bytesRead } = await this.#file.read(chunk, have, CHUNK_BYTES - have);
      if (bytesRead === 0) break;
      have += bytesRead;
    } while (this.#reader === undefined && have < MAGIC_BYTES);
    this.#reader ??= readerFor(chunk.subarray(0, have));
    this.#bytes += have;
    this.#reader.feed(chunk.subarray(0, have));
    return have > 0;
  }

  /** Back to the first packet: opens the file anew. */
  async rewind(): Promise<void> {
    const file = await open(this.#path, "r");
    await this.#file.close();
    this.#file = file;
    this.#reader = undefined;
    this.#bytes = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

function* packets(reader: Pick<PacketReader, "next">): Generator<CapturedPacket, void, undefined> {
  for (let packet = reader.next(); packet !== undefined; packet = reader.next()) yield packet;
}
