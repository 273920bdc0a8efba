/**
 * pong: sends every UDP frame back to its sender. The buffer is not copied, but swapped into a
 * transmit slot. Addresses and ports are swapped in the frame, which leaves its checksums valid.
 */
import { Ns, Poll } from "../../netmap/flags.ts";
import type { NetmapRing } from "../../netmap/ring.ts";
import { type AppPort, type Control, type Counts, drain, waitFor } from "../app.ts";
import type { PktGenConfig } from "../pkt-gen.ts";
import { swapSlot } from "../slots.ts";
import { dumpSlot } from "./hexdump.ts";

const UDP_PROTOCOL = 17;
/** Bytes of an Ethernet, an IPv4 and a UDP header. */
const HEADERS = 42;

export async function pong(
  port: AppPort,
  config: PktGenConfig,
  counts: Counts,
  control: Control,
): Promise<void> {
  const ponger = new Ponger(port, config);
  const wanted = config.count === 0 ? Number.POSITIVE_INFINITY : config.count;
  while (counts.packets < wanted && !control.isStopped) {
    if ((await waitFor(port, Poll.IN, counts, control)) === 0) continue;
    if (!counts.hasBegun) counts.begin();
    if (ponger.turn(wanted - counts.packets, counts) > 0) port.txsync();
  }
  await drain([port], control);
  counts.end();
}

class Ponger {
  readonly #port: AppPort;
  readonly #dump: boolean;
  readonly #mac: Uint8Array;
  readonly #tx: NetmapRing;
  readonly #rx: readonly NetmapRing[];
  readonly #view: DataView;

  constructor(port: AppPort, { dump, srcMac }: PktGenConfig) {
    this.#port = port;
    this.#dump = dump;
    this.#mac = srcMac;
    this.#tx = port.txRing(port.firstTx);
    this.#rx = port.rxRings();
    this.#view = new DataView(port.bytes.buffer);
  }

  /**
   * Answers the received frames. Drops and counts frames for which the transmit ring has no room.
   * Returns the number of answers.
   */
  turn(limit: number, counts: Counts): number {
    const tx = this.#tx;
    let packets = 0;
    let bytes = 0;
    let to = tx.head;
    let room = tx.space;
    for (const rx of this.#rx) {
      let slot = rx.head;
      const { tail } = rx;
      for (; slot !== tail && packets < limit; slot = rx.next(slot)) {
        const length = rx.len(slot);
        const isWhole = (rx.slotFlags(slot) & Ns.MOREFRAG) === 0;
        const at = this.#port.bufferAt(rx.bufIdx(slot));
        if (!isWhole || !this.#isUdp(at, length)) continue;
        if (room === 0) {
          counts.addDrops(1);
          continue;
        }
        if (this.#dump) {
          dumpSlot(this.#port, rx, slot, this.#port.buffer(rx.bufIdx(slot)), length);
        }
        this.#turnRound(at);
        swapSlot(rx, slot, tx, to);
        to = tx.next(to);
        room--;
        packets++;
        bytes += length;
      }
      rx.advance(slot);
    }
    if (packets === 0) return 0;
    tx.advance(to);
    counts.add(packets, bytes);
    return packets;
  }

  /** True for UDP over IPv4 without options. */
  #isUdp(at: number, length: number): boolean {
    const view = this.#view;
    return (
      length >= HEADERS &&
      view.getUint16(at + 12) === 0x0800 &&
      view.getUint8(at + 14) === 0x45 &&
      view.getUint8(at + 23) === UDP_PROTOCOL
    );
  }

  #turnRound(at: number): void {
    const view = this.#view;
    this.#swap16(at, at + 6);
    this.#swap16(at + 2, at + 8);
    this.#swap16(at + 4, at + 10);
    const source = view.getUint32(at + 26);
    view.setUint32(at + 26, view.getUint32(at + 30));
    view.setUint32(at + 30, source);
    this.#swap16(at + 34, at + 36);
    // A multicast destination is not valid as a source.
    if ((view.getUint8(at + 6) & 1) !== 0) this.#port.bytes.set(this.#mac, at + 6);
  }

  #swap16(a: number, b: number): void {
    const held = this.#view.getUint16(a);
    this.#view.setUint16(a, this.#view.getUint16(b));
    this.#view.setUint16(b, held);
  }
}
