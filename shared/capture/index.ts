/**
 * The library's part for captures: pcapng as a model, a writer and readers, and the recorder that
 * captures frames and batches while traffic passes.
 *
 *   import { Direction, FileOutput, readCaptureFile, Recorder } from "ringwire/capture";
 *
 *   const recorder = new Recorder(new FileOutput("trace.pcapng"));
 *   const port = recorder.addInterface({ name: "vm1", layer: "frame" });
 *   recorder.span(port, Direction.OUT, 0, frame, 0, frame.length, 0);
 *   await recorder.stop("done");
 *   for await (const packet of readCaptureFile("trace.pcapng")) console.log(packet.originalLength);
 *
 * A recorder never makes its caller wait and never throws: a packet is copied, or counted as lost.
 * Readers believe no byte of a file: they throw CaptureFormatError, which names the byte. Times are
 * nanoseconds since 1970, lengths are bytes.
 */
export { BlockBuffer } from "../pcapng/block-buffer.ts";
export { Direction, LinkType } from "../pcapng/layout.ts";
export {
  type CapturedInterface,
  type CapturedPacket,
  type CaptureFormatCode,
  CaptureFormatError,
  type CaptureOption,
  type PacketReader,
} from "../pcapng/packet.ts";
export {
  type CaptureName,
  type CaptureSection,
  type CaptureStatistics,
  PcapngReader,
} from "../pcapng/reader.ts";
export {
  type InterfaceCounts,
  type InterfaceInfo,
  type PacketFacts,
  PcapngWriter,
  packetNote,
  type SectionInfo,
  Verdict,
} from "../pcapng/writer.ts";
export { LinkState, type StateEntry, stateEntries } from "../wire/link-state.ts";
export { FileOutput, type FileOutputOptions } from "./file-output.ts";
export { CaptureFilterError, compileFilter } from "./filter.ts";
export { type CaptureOutput, type CaptureSink, SinkError } from "./output.ts";
export { CaptureFileReader, type ReadEnd, readCapture, readCaptureFile } from "./read.ts";
export { MAX_SNAP_BYTES, Recorder } from "./recorder.ts";
export type {
  CaptureInterface,
  CaptureSummary,
  FrameFilter,
  InterfaceStats,
  RecorderOptions,
} from "./recorder-types.ts";
export {
  LinkDirection,
  parseRingPacket,
  type RingPacket,
  RingPersonality,
  ringPersonality,
} from "./ring-header.ts";
