/** Capture files of either format, told apart by their first word. */
import { open } from "node:fs/promises";
import { isPcapMagic, PcapReader } from "./pcap-reader.ts";
import { BlockType } from "./pcapng/layout.ts";
import { type CapturedPacket, CaptureFormatError, type PacketReader } from "./pcapng/packet.ts";
import { PcapngReader } from "./pcapng/reader.ts";

const CHUNK_BYTES = 1024 * 1024;

/** A reader for what begins with `head` (four bytes or more). Throws CaptureFormatError. */
export function readerFor(head: Uint8Array): PcapReader | PcapngReader {
  if (head.length < 4) {
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
  await using file = await open(path, "r");
  let reader: PacketReader | undefined;
  for (;;) {
    // A chunk of its own each time: packets are views of it.
    const chunk = new Uint8Array(CHUNK_BYTES);
    const { bytesRead } = await file.read(chunk, 0, CHUNK_BYTES);
    reader ??= readerFor(chunk.subarray(0, bytesRead));
    if (bytesRead === 0) return { cutBytes: reader.pending };
    reader.feed(chunk.subarray(0, bytesRead));
    yield* packets(reader);
  }
}

function* packets(reader: PacketReader): Generator<CapturedPacket, void, undefined> {
  for (let packet = reader.next(); packet !== undefined; packet = reader.next()) yield packet;
}
