/** tx, txseq: fills transmit rings. */
import { copyBytes } from "../../../shared/bytes/copy.ts";
import { Ns, Poll } from "../../netmap/flags.ts";
import type { NetmapRing } from "../../netmap/ring.ts";
import { type AppPort, type Control, type Counts, drain, waitFor } from "../app.ts";
import type { PktGenConfig } from "../pkt-gen.ts";
import { dumpSlot } from "./hexdump.ts";
import { Pacer } from "./pacer.ts";
import { CapturedFrames, type FrameSource, UdpFrames } from "./packet.ts";

const FULL_MS = 1;

export async function send(
  port: AppPort,
  config: PktGenConfig,
  counts: Counts,
  control: Control,
): Promise<void> {
  const isNumbered = config.mode === "txseq";
  const source =
    config.captured.length > 0
      ? new CapturedFrames(config.captured)
      : new UdpFrames(config, isNumbered);
  // Numbered frames leave by one ring, so that they arrive in order.
  const rings = isNumbered ? port.txRings().slice(0, 1) : port.txRings();
  const fillers = rings.map((ring) => new Filler(port, ring, source, config));
  const pacer = new Pacer(config.rate, config.burst, control);
  const wanted = config.count === 0 ? Number.POSITIVE_INFINITY : config.count;
  let sent = 0;
  counts.begin();
  while (sent < wanted && !control.isStopped) {
    let due = await pacer.due();
    if ((await waitFor(port, Poll.OUT, counts, control)) === 0) continue;
    const before = sent;
    for (const filler of fillers) {
      const limit = Math.min(due, wanted - sent);
      const packets = filler.fill(limit, counts);
      sent += packets;
      pacer.gave(packets);
      // Without a rate, each ring may send a whole burst. All rings share a rate.
      if (config.rate > 0) due -= packets;
    }
    if (sent > before || due === 0) continue;
    // Only rings that this mode does not use have room, so poll did not sync the rings in use.
    port.txsync();
    await control.sleep(FULL_MS);
  }
  await drain([port], control);
  counts.end();
}

/** Fills the slots of one transmit ring. */
class Filler {
  readonly #port: AppPort;
  readonly #ring: NetmapRing;
  readonly #source: FrameSource;
  readonly #config: PktGenConfig;
  /** Number of slots, from the first on, whose buffers contain the frame already. */
  #filled = 0;

  constructor(port: AppPort, ring: NetmapRing, source: FrameSource, config: PktGenConfig) {
    this.#port = port;
    this.#ring = ring;
    this.#source = source;
    this.#config = config;
  }

  /** Hands over at most `limit` packets by head and cur. The next poll sends them. */
  fill(limit: number, counts: Counts): number {
    const ring = this.#ring;
    const { frags, dump } = this.#config;
    const packets = Math.min(limit, Math.floor(ring.space / frags));
    if (packets <= 0) {
      // The room is less than one packet: move cur, so that poll waits for more room.
      if (limit > 0) ring.cur = ring.tail;
      return 0;
    }
    let slot = ring.head;
    let bytes = 0;
    for (let n = 0; n < packets; n++) {
      const length = this.#source.next();
      if (dump) dumpSlot(this.#port, ring, slot, this.#source.bytes, length);
      slot = this.#put(slot, length);
      bytes += length;
    }
    const last = ring.prev(slot);
    ring.setSlotFlags(last, ring.slotFlags(last) | Ns.REPORT);
    ring.advance(slot);
    counts.add(packets, bytes);
    counts.sawSpace(ring.space);
    return packets;
  }

  /** Puts one packet into its slots. Returns the slot behind them. */
  #put(first: number, length: number): number {
    const ring = this.#ring;
    const { frags, fragBytes } = this.#config;
    const share = fragBytes > 0 ? fragBytes : Math.ceil(length / frags);
    let slot = first;
    let at = 0;
    for (let left = frags; left > 0; left--) {
      const piece = left === 1 ? length - at : Math.min(share, length - at);
      const flags = ring.slotFlags(slot) & Ns.BUF_CHANGED;
      if (this.#mustCopy(flags)) {
        const to = this.#port.bufferAt(ring.bufIdx(slot));
        copyBytes(this.#source.bytes, at, this.#port.bytes, to, piece);
      }
      ring.setLen(slot, piece);
      ring.setSlotFlags(slot, left > 1 ? flags | Ns.MOREFRAG : flags);
      at += piece;
      slot = ring.next(slot);
    }
    return slot;
  }

  /** True when the slot's buffer does not contain the frame: it is new to the ring, or replaced. */
  #mustCopy(flags: number): boolean {
    if (this.#config.rubbish) return false;
    if (!this.#source.isSame || this.#config.frags > 1) return true;
    if (this.#filled < this.#ring.numSlots) {
      this.#filled++;
      return true;
    }
    return (flags & Ns.BUF_CHANGED) !== 0;
  }
}
