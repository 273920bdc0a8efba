/**
 * ping: sends numbered frames that contain the time, and measures the age of their echoes. With a
 * burst of 1, the default, the next frame leaves when the echo has arrived or is given up.
 */
import { copyBytes } from "../../../shared/bytes/copy.ts";
import { Poll } from "../../netmap/flags.ts";
import type { NetmapRing } from "../../netmap/ring.ts";
import { type AppPort, type Control, type Counts, waitFor } from "../app.ts";
import type { PktGenConfig, PktGenResult } from "../pkt-gen.ts";
import { DelayHistogram } from "./histogram.ts";
import { Pacer } from "./pacer.ts";
import { LEAST_FRAME, MARK, NANOSECONDS, SECONDS, SEQ, TEXT, UdpFrames } from "./packet.ts";
import { SequenceLog } from "./sequence.ts";

/** Longest wait (ms) for an echo, as in netmap's pkt-gen. Later echoes are given up. */
const ANSWER_MS = 3000;

export async function ping(
  port: AppPort,
  config: PktGenConfig,
  counts: Counts,
  control: Control,
): Promise<PktGenResult> {
  const pinger = new Pinger(port, config);
  const pacer = new Pacer(config.rate, config.burst, control);
  const wanted = config.count === 0 ? Number.POSITIVE_INFINITY : config.count;
  let sent = 0;
  counts.begin();
  while (sent < wanted && !control.isStopped) {
    const due = await pacer.due();
    if ((await waitFor(port, Poll.OUT, counts, control)) === 0) continue;
    const packets = pinger.send(Math.min(due, wanted - sent), counts);
    sent += packets;
    pacer.gave(packets);
    await answers(port, pinger, sent, counts, control);
  }
  counts.end();
  const sequence = pinger.log.report();
  return { delays: pinger.delays.report(), sequence, unanswered: sent - sequence.unique };
}

/** Waits until all echoes have arrived, none arrived for ANSWER_MS, or the ping is stopped. */
async function answers(
  port: AppPort,
  pinger: Pinger,
  sent: number,
  counts: Counts,
  control: Control,
): Promise<void> {
  let waited = performance.now();
  while (pinger.answered < sent - pinger.givenUp && !control.isStopped) {
    const before = pinger.answered;
    if ((await waitFor(port, Poll.IN, counts, control)) !== 0) pinger.receive();
    const now = performance.now();
    if (pinger.answered > before) waited = now;
    else if (now - waited > ANSWER_MS) pinger.givenUp = sent - pinger.answered;
  }
}

class Pinger {
  readonly log = new SequenceLog();
  readonly delays = new DelayHistogram();
  answered = 0;
  givenUp = 0;
  readonly #port: AppPort;
  readonly #frames: UdpFrames;
  readonly #tx: NetmapRing;
  readonly #rx: readonly NetmapRing[];
  readonly #view: DataView;

  constructor(port: AppPort, config: PktGenConfig) {
    this.#port = port;
    this.#frames = new UdpFrames(config, true);
    this.#tx = port.txRing(port.firstTx);
    this.#rx = port.rxRings();
    this.#view = new DataView(port.bytes.buffer);
  }

  send(limit: number, counts: Counts): number {
    const ring = this.#tx;
    const packets = Math.min(limit, ring.space);
    if (packets === 0) return 0;
    let slot = ring.head;
    let bytes = 0;
    for (let n = 0; n < packets; n++) {
      const now = performance.now();
      this.#frames.seconds = Math.floor(now / 1000);
      this.#frames.nanoseconds = Math.floor((now % 1000) * 1e6);
      const length = this.#frames.next();
      copyBytes(
        this.#frames.bytes,
        0,
        this.#port.bytes,
        this.#port.bufferAt(ring.bufIdx(slot)),
        length,
      );
      ring.setLen(slot, length);
      bytes += length;
      slot = ring.next(slot);
    }
    ring.advance(slot);
    this.#port.txsync();
    counts.add(packets, bytes);
    return packets;
  }

  receive(): void {
    const now = performance.now();
    for (const ring of this.#rx) {
      let slot = ring.head;
      const { tail } = ring;
      for (; slot !== tail; slot = ring.next(slot)) {
        this.#look(this.#port.bufferAt(ring.bufIdx(slot)), ring.len(slot), now);
      }
      ring.advance(slot);
    }
  }

  #look(at: number, length: number, now: number): void {
    const view = this.#view;
    if (length < LEAST_FRAME || view.getUint32(at + TEXT) !== MARK) {
      this.log.counts.foreign++;
      return;
    }
    this.log.saw(view.getUint32(at + SEQ));
    this.answered = this.log.counts.unique;
    const ms = now - view.getUint32(at + SECONDS) * 1000 - view.getUint32(at + NANOSECONDS) / 1e6;
    this.delays.add(ms * 1e6);
  }
}
