/**
 * rxseq: receives numbered frames, checks their checksums, and accounts for every number. A frame
 * in several slots is copied into one buffer first.
 */
import { copyBytes } from "../../../shared/bytes/copy.ts";
import { foldSum, sumBytes } from "../../../shared/net/checksum.ts";
import type { NetmapRing } from "../../netmap/ring.ts";
import type { AppPort, Control, Counts } from "../app.ts";
import type { PktGenConfig } from "../pkt-gen.ts";
import { LEAST_FRAME, MARK, SEQ, TEXT } from "./packet.ts";
import { receive } from "./receive.ts";
import { SequenceLog, type SequenceReport } from "./sequence.ts";

const LONGEST_FRAME = 65_535;
const IP = 14;
const IP_ADDRESSES = 26;
const UDP = 34;
const UDP_PROTOCOL = 17;

export async function receiveNumbered(
  port: AppPort,
  config: PktGenConfig,
  counts: Counts,
  control: Control,
): Promise<SequenceReport> {
  const reader = new NumberedReader(port);
  await receive(port, config, counts, control, reader.look);
  return reader.log.report();
}

/** A frame of several slots in one buffer. */
class Gathered {
  readonly bytes = new Uint8Array(LONGEST_FRAME);
  readonly view = new DataView(this.bytes.buffer);
  length = 0;
}

class NumberedReader {
  readonly log = new SequenceLog();
  readonly #port: AppPort;
  readonly #inPort: DataView;
  /** The frame that each ring has begun, by ring number. */
  readonly #gathered: Gathered[] = [];

  constructor(port: AppPort) {
    this.#port = port;
    this.#inPort = new DataView(port.bytes.buffer);
    for (const ring of port.rxRings()) this.#gathered[ring.ringId] = new Gathered();
  }

  readonly look = (ring: NetmapRing, slot: number, length: number, isLast: boolean): void => {
    const { bytes } = this.#port;
    const whole = this.#gathered[ring.ringId]!;
    const at = this.#port.bufferAt(ring.bufIdx(slot));
    if (isLast && whole.length === 0) {
      this.#judge(bytes, this.#inPort, at, length);
      return;
    }
    const piece = Math.min(length, LONGEST_FRAME - whole.length);
    copyBytes(bytes, at, whole.bytes, whole.length, piece);
    whole.length += piece;
    if (!isLast) return;
    this.#judge(whole.bytes, whole.view, 0, whole.length);
    whole.length = 0;
  };

  #judge(bytes: Uint8Array, view: DataView, at: number, length: number): void {
    const isOurs =
      length >= LEAST_FRAME &&
      view.getUint16(at + 12) === 0x0800 &&
      view.getUint32(at + TEXT) === MARK;
    if (!isOurs) this.log.counts.foreign++;
    else if (isIntact(bytes, view, at, length)) this.log.saw(view.getUint32(at + SEQ));
    else this.log.counts.corrupt++;
  }
}

/** True when a pkt-gen frame has both checksums right, and its lengths match the frame's. */
function isIntact(bytes: Uint8Array, view: DataView, at: number, length: number): boolean {
  const ipLength = view.getUint16(at + IP + 2);
  const udpLength = view.getUint16(at + UDP + 4);
  if (ipLength !== length - IP || udpLength !== length - UDP) return false;
  if (foldSum(sumBytes(bytes, at + IP, UDP - IP)) !== 0xffff) return false;
  const pseudo = sumBytes(bytes, at + IP_ADDRESSES, 8) + UDP_PROTOCOL + udpLength;
  return foldSum(pseudo + sumBytes(bytes, at + UDP, udpLength)) === 0xffff;
}
