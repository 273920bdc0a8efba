/**
 * A traffic test between two interfaces. Two peers find each other, measure the round trip, and
 * exchange frames that the receiver checks to the last byte. `ringwire demo` runs two of them.
 *
 *   CALL   broadcast until the peer is heard
 *   PING, PONG   one after the other, before the data
 *   DATA   numbered, of mixed sizes, as many unacknowledged as WINDOW; every frame carries `ack`
 *   ACK    when there is an acknowledgement to send and no data to carry it
 *
 *   0             6        12       14     15  16    20    24     28         32
 *   | destination | source | 0x88b5 | kind | - | seq | ack | time | checksum | body ...
 */
import type { Ifnet } from "../net/ifnet.ts";
import { type Mbuf, MbufPool, mCopyData } from "../net/mbuf.ts";

/** Local experimental EtherType (IEEE 802): no kernel or switch has a meaning for it. */
const ETHER_TYPE = 0x88b5;
const Kind = { CALL: 1, PING: 2, PONG: 3, DATA: 4, ACK: 5 } as const;
const KIND = 14;
const SEQ = 16;
const ACK = 20;
const TIME = 24;
const CHECKSUM = 28;
const BODY = 32;
const SIZES = [60, 60, 128, 256, 594, 1024, 1514, 1514] as const;
/**
 * Unacknowledged frames: 60 KiB of them, so less than a receive ring holds and less than the 128 KiB
 * that a link may always have on its way. Nothing need be dropped.
 */
const WINDOW = 96;
const BURST = 64;
/** Number of PINGs. The first ones run cold code, which does not change the median. */
const PINGS = 300;
const CALL_MS = 50;

/** Counters of this end. They count frames of DATA, unless the comment says otherwise. */
export class ExchangeReport {
  sent = 0;
  sentBytes = 0;
  acknowledged = 0;
  received = 0;
  receivedBytes = 0;
  /** Received frames with correct bytes and a new number. */
  verified = 0;
  corrupt = 0;
  duplicate = 0;
  /** Numbers that were skipped, and those of them that arrived later. */
  missing = 0;
  late = 0;
  /** Round trips in microseconds, sorted: one for each PING. */
  roundTripUs: number[] = [];
}

export class Exchange {
  readonly report = new ExchangeReport();
  /** The peer is found and the round trip known: time for `startData`. */
  onReady: () => void = () => {};
  /** Everything sent is acknowledged, after `stopData`. */
  onQuiet: () => void = () => {};

  readonly #ifnet: Ifnet;
  readonly #pool = new MbufPool(2048, 2 * WINDOW);
  readonly #pings: number;
  readonly #peer = new Uint8Array(6).fill(0xff);
  readonly #bytes = new Uint8Array(2048);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #skipped = new Set<number>();
  readonly #batch: Mbuf[] = [];
  #caller: NodeJS.Timeout | undefined;
  #sending = false;
  #stopped = false;
  #turnAsked = false;
  #expected = 0;
  #ackSent = 0;
  #pongsAtCall = 0;

  constructor(ifnet: Ifnet, pings = PINGS) {
    this.#ifnet = ifnet;
    this.#pings = pings;
    ifnet.input = (m) => this.#input(m);
    ifnet.inputDone = () => this.#answer();
    ifnet.onTransmitReady = () => this.#answer();
  }

  /** Looks for the peer. */
  start(): void {
    this.#send(Kind.CALL, 0, 60);
    this.#caller = setInterval(() => this.#call(), CALL_MS);
  }

  startData(): void {
    this.#sending = true;
    this.#pump();
  }

  stopData(): void {
    this.#sending = false;
    this.#stopped = true;
    this.#judgeQuiet();
  }

  /** No frame leaves after this. */
  close(): void {
    clearInterval(this.#caller);
    this.#sending = false;
  }

  /** Adds a frame to the current batch, if there is an mbuf. */
  #add(kind: number, seq: number, length: number): void {
    const m = this.#pool.get();
    if (m === undefined) return;
    const b = m.buffer.subarray(m.at, m.at + length);
    b.set(this.#peer, 0);
    b.set(this.#ifnet.mac, 6);
    const view = new DataView(b.buffer, b.byteOffset, length);
    view.setUint16(12, ETHER_TYPE);
    view.setUint16(KIND, kind << 8);
    view.setUint32(SEQ, seq);
    view.setUint32(ACK, this.#expected);
    view.setUint32(TIME, nowUs());
    for (let i = BODY; i < length; i++) b[i] = bodyByte(seq, i);
    view.setUint32(CHECKSUM, checksum(b, length));
    m.length = length;
    m.pktLength = length;
    this.#batch.push(m);
  }

  /** Sends the current batch. Returns the number of frames that the driver accepted. The rest is made again. */
  #sendBatch(): number {
    const batch = this.#batch;
    if (batch.length === 0) return 0;
    const sent = this.#ifnet.transmit(batch, batch.length);
    for (let i = sent; i < batch.length; i++) batch[i]!.free();
    batch.length = 0;
    if (sent > 0) this.#ackSent = this.#expected;
    return sent;
  }

  #send(kind: number, seq: number, length: number): void {
    this.#add(kind, seq, length);
    this.#sendBatch();
  }

  /** Sends as much as window and ring allow, in bursts, so that arrivals get their turn. */
  #pump(): void {
    const r = this.report;
    const room = this.#sending ? WINDOW - (r.sent - r.acknowledged) : 0;
    const last = r.sent + Math.min(room, BURST);
    for (let seq = r.sent; seq < last; seq++) this.#add(Kind.DATA, seq, sizeOf(seq));
    for (let left = this.#sendBatch(); left > 0; left--) r.sentBytes += sizeOf(r.sent++);
    if (r.sent === last && room > BURST) this.#askTurn();
  }

  #askTurn(): void {
    if (this.#turnAsked) return;
    this.#turnAsked = true;
    setImmediate(() => {
      this.#turnAsked = false;
      this.#pump();
    });
  }

  #input(m: Mbuf): void {
    const length = m.pktLength;
    const fits = length >= BODY && length <= this.#bytes.length;
    if (fits) mCopyData(m, 0, length, this.#bytes, 0);
    m.free();
    if (!fits || this.#view.getUint16(12) !== ETHER_TYPE) return;
    const kind = this.#bytes[KIND]!;
    const right = this.#intact(length);
    if (kind === Kind.DATA) this.#data(length, right);
    if (!right) return;
    const r = this.report;
    const ack = this.#view.getUint32(ACK);
    if (ack > r.acknowledged && ack <= r.sent) r.acknowledged = ack;
    if (this.#peer[0] === 0xff) this.#meet();
    if (kind === Kind.PING) this.#send(Kind.PONG, this.#view.getUint32(TIME), 60);
    else if (kind === Kind.PONG) this.#pong((nowUs() - this.#view.getUint32(SEQ)) >>> 0);
  }

  #intact(length: number): boolean {
    const b = this.#bytes;
    const seq = this.#view.getUint32(SEQ);
    for (let i = BODY; i < length; i++) if (b[i] !== bodyByte(seq, i)) return false;
    return checksum(b, length) === this.#view.getUint32(CHECKSUM);
  }

  #data(length: number, right: boolean): void {
    const r = this.report;
    r.received++;
    r.receivedBytes += length;
    const seq = this.#view.getUint32(SEQ);
    if (!right || length !== sizeOf(seq) || seq > this.#expected + WINDOW) {
      r.corrupt++;
      return;
    }
    if (seq < this.#expected) {
      if (!this.#skipped.delete(seq)) {
        r.duplicate++;
        return;
      }
      r.late++;
    } else {
      for (let n = this.#expected; n < seq; n++) {
        this.#skipped.add(n);
        r.missing++;
      }
      this.#expected = seq + 1;
    }
    r.verified++;
  }

  /** Called after a received burst, or when there is room again. Sends data or an acknowledgement. */
  #answer(): void {
    this.#pump();
    if (this.#ackSent !== this.#expected) this.#send(Kind.ACK, 0, 60);
    this.#judgeQuiet();
  }

  /** Repeats CALL or PING until the round trip is known, because a frame may have been lost. */
  #call(): void {
    const { length } = this.report.roundTripUs;
    this.#send(Kind.CALL, 0, 60);
    if (this.#peer[0] !== 0xff && length === this.#pongsAtCall) this.#send(Kind.PING, 0, 60);
    this.#pongsAtCall = length;
  }

  /** The first frame carries the peer's address. The answer carries the address of this end. */
  #meet(): void {
    this.#peer.set(this.#bytes.subarray(6, 12));
    this.#send(Kind.CALL, 0, 60);
    this.#send(Kind.PING, 0, 60);
  }

  #pong(us: number): void {
    const { roundTripUs } = this.report;
    // A PING that counted as lost may still be answered.
    if (roundTripUs.length === this.#pings) return;
    roundTripUs.push(us);
    if (roundTripUs.length < this.#pings) {
      this.#send(Kind.PING, 0, 60);
      return;
    }
    clearInterval(this.#caller);
    roundTripUs.sort((a, b) => a - b);
    this.onReady();
  }

  #judgeQuiet(): void {
    if (this.#stopped && this.report.acknowledged === this.report.sent) this.onQuiet();
  }
}

const sizeOf = (seq: number): number => SIZES[seq % SIZES.length]!;

const nowUs = (): number => Math.round(performance.now() * 1000) >>> 0;

const bodyByte = (seq: number, i: number): number => (seq * 31 + i * 7) & 0xff;

/** FNV-1a (IETF draft-eastlake-fnv) over everything but the addresses and the checksum itself. */
function checksum(b: Uint8Array, length: number): number {
  let h = 0x811c9dc5;
  for (let i = 12; i < CHECKSUM; i++) h = Math.imul(h ^ b[i]!, 0x01000193);
  for (let i = BODY; i < length; i++) h = Math.imul(h ^ b[i]!, 0x01000193);
  return h >>> 0;
}
