/**
 * Transmit: from the driver's descriptors to a frame for the switch.
 *
 *   host ring   | meta | desc | desc | ...             16 bytes an entry
 *   LLQ entry   | desc | desc | header ...        |    128 or 256 bytes, in BAR 2
 *               | desc | desc | desc | ...        |    further entries of the same packet
 *
 *   IDLE --packet whole, bytes here--> offered --> completed
 *     '--bytes not pushed--> READING --read--> READY --'
 *                            offered, no room --> HELD --room again--> READY
 *
 * A queue works alone and in order. While it reads or is held, its ring waits and other queues
 * continue. Each descriptor is read once. The bytes are never copied: the frame's spans are the
 * pushed bytes themselves, which are released when the packet is completed.
 *
 * An error inside one packet costs that packet only. The packet is reported, dropped, and completed
 * like any other. The queue stops after an error that hides the start of the next packet or the
 * request id to complete.
 */

import { TX_DESC_SIZE, txCdesc, txDesc, txMeta } from "../../shared/ena/io.ts";
import { ETHER_HEADER_BYTES, L2_BYTES } from "../../shared/net/ethernet.ts";
import { Frame, MAX_FRAME_BYTES } from "../../shared/net/frame.ts";
import { distance, index16 } from "../../shared/ring/index16.ts";
import { busAddresses, Space } from "../../shared/wire/records.ts";
import type { Span } from "../dma/host-memory.ts";
import { DropReason, type SwitchPort, Verdict } from "../switch/port.ts";
import type { CompletionQueue } from "./completion-queue.ts";
import { ADDRESS_END, type EnaContext, MAX_PACKET_DESCS } from "./context.ts";
import type { LlqConfig } from "./features.ts";
import type { DescriptorRing } from "./memory.ts";
import { TxMeta, TxOffloads } from "./offload.ts";
import { IdSet } from "./request-ids.ts";
import { SubmissionQueue } from "./submission-queue.ts";

const Stage = {
  IDLE: "idle",
  READING: "reading",
  READY: "ready",
  HELD: "held",
  STOPPED: "stopped",
} as const;
type Stage = (typeof Stage)[keyof typeof Stage];

/** Most buffers of a packet. With a meta descriptor, drivers post one more than is allowed. */
const MAX_DESCS = MAX_PACKET_DESCS + 1;
/** Reserved bits of len_ctrl: 22, 25 and 31:29 must be zero. */
const LEN_CTRL_MBZ = ((1 << 22) | (1 << 25) | (7 << 29)) >>> 0;
const INCOMPLETE = 0;
const STOPPED = -1;

export class TxQueue extends SubmissionQueue {
  readonly llq: LlqConfig | undefined;
  drops = 0;
  stage: Stage = Stage.IDLE;
  readonly #port: SwitchPort;
  /** Called when a read has brought the bytes of the current packet. */
  readonly #onReady: () => void;
  readonly #meta = new TxMeta();
  readonly #offloads = new TxOffloads();
  readonly #frame = new Frame();
  readonly #span: Span = { buffer: new Uint8Array(0), at: 0, length: 0 };
  /** Request ids that are not completed yet. */
  readonly #inFlight = new IdSet();
  /** Ids of this burst that `settle` completes in random order, if that option is set. */
  readonly #shuffled: number[] = [];

  /** The ring's head when completions were last sent: the driver may reuse the entries before it. */
  #told = index16(0);

  // The current packet.
  readonly #addresses = busAddresses(MAX_DESCS);
  readonly #lengths = new Int32Array(MAX_DESCS);
  #buffers = 0;
  #lenCtrl = 0;
  #metaCtrl = 0;
  #reqId = 0;
  #headerAt = 0;
  #headerLength = 0;
  /** Code of the error in this packet; empty if there is none. */
  #broken = "";
  #brokenReason: DropReason = DropReason.TX_MALFORMED;

  constructor(
    context: EnaContext,
    ring: DescriptorRing,
    cq: CompletionQueue,
    llq: LlqConfig | undefined,
    port: SwitchPort,
    onReady: () => void,
  ) {
    super("tx", context, ring, cq);
    this.llq = llq;
    this.#port = port;
    this.#onReady = onReady;
  }

  /** Sends packets worth up to `budget`. Returns their work: less if the ring is empty or waits. */
  run(budget: number): number {
    let done = 0;
    while (done < budget) {
      if (this.stage === Stage.IDLE) {
        const entries = this.#parse();
        if (entries <= INCOMPLETE) break;
        this.ring.cursor.skip(entries);
        this.#inFlight.add(this.#reqId);
        if (this.#broken === "" && !this.#gather()) {
          this.stage = Stage.READING;
          this.context.kept.urgent = true;
          this.context.counters.txReads++;
          void this.#read();
          break;
        }
        this.#prepare();
      } else if (this.stage !== Stage.READY) break;

      this.#frame.queue = this.index;
      if (this.#broken !== "") this.#drop();
      else if (this.#port.input(this.#frame) === Verdict.HELD) {
        this.stage = Stage.HELD;
        this.context.kept.urgent = true;
        this.#frame.keep();
        break;
      } else {
        done += this.#port.work - 1;
        this.packets++;
        this.bytes += this.#frame.length;
        this.context.counters.txPackets++;
        this.context.counters.txBytes += this.#frame.length;
      }
      this.#complete();
      this.stage = Stage.IDLE;
      done++;
    }
    return done;
  }

  /**
   * Returns the request ids without a completion: of consumed packets, then of announced packets. A
   * packet that is announced in part counts.
   */
  outstanding(): number[] {
    const ids = this.#inFlight.list();
    const { ring, llq } = this;
    // Only the first descriptor of a packet's first entry has the first bit set.
    for (let entry = 0; entry < ring.readable; entry++) {
      const at = ring.at(entry);
      if (txDesc.first(ring.view, at) === 0) continue;
      if (txDesc.isMeta(ring.view, at) === 0) ids.push(txDesc.reqId(ring.view, at));
      else if (llq !== undefined && llq.descsBeforeHeader > 1) {
        ids.push(txDesc.reqId(ring.view, at + TX_DESC_SIZE));
      } else if (entry + 1 < ring.readable) ids.push(txDesc.reqId(ring.view, ring.at(entry + 1)));
    }
    return ids;
  }

  /** Called when the switch has room again. */
  resume(): void {
    if (this.stage === Stage.HELD) this.#wakeUp();
  }

  /** The packet that waited goes on. Its driver may wait for it. */
  #wakeUp(): void {
    this.stage = Stage.READY;
    this.context.kept.urgent = true;
  }

  /** Number of ring entries that the driver can't reuse yet, as far as it knows. */
  get occupied(): number {
    return distance(this.#told, this.ring.tail);
  }

  /** Called when the completions of this queue were sent. */
  completionsSent(): void {
    this.#told = this.ring.cursor.head;
  }

  /** Moves this burst's completions to the completion queue. */
  settle(): void {
    const { pick } = this.context;
    const ids = this.#shuffled;
    if (pick === undefined) return;
    while (ids.length > 0) {
      const i = pick(ids.length);
      const id = ids[i]!;
      ids[i] = ids[ids.length - 1]!;
      ids.pop();
      this.#post(id);
    }
  }

  override stop(code: string, text: string): void {
    super.stop(code, text);
    this.stage = Stage.STOPPED;
  }

  /** Closes the queue for destroy or reset. Completes nothing more, and releases pushed bytes. */
  override close(): void {
    if (this.stage !== Stage.IDLE && this.stage !== Stage.STOPPED) this.#release();
    this.stage = Stage.STOPPED;
    this.#releaseRing();
    super.close();
  }

  /**
   * Reads one packet's descriptors. Returns the packet's number of ring entries, INCOMPLETE if its
   * last descriptor is not announced yet, or STOPPED if the queue had to stop.
   */
  #parse(): number {
    const { ring, llq } = this;
    const { view } = ring;
    const readable = ring.readable;
    if (readable === 0) return INCOMPLETE;
    let at = ring.at(0);
    let phase = ring.phase(0);
    let entries = 1;
    let slots = llq === undefined ? 1 : llq.descsBeforeHeader;
    let descs = 0;
    let buffers = 0;
    let metaSeen = false;
    this.#broken = "";
    this.#brokenReason = DropReason.TX_MALFORMED;
    this.#headerAt = llq === undefined ? 0 : at + llq.headerAt;
    for (;;) {
      const lenCtrl = txDesc.lenCtrl(view, at);
      if (txDesc.phaseOf(lenCtrl) !== phase) {
        return this.#halt(
          "TX_WRONG_PHASE",
          `descriptor ${ring.cursor.head} was announced but carries the old phase`,
        );
      }
      if (++descs > MAX_DESCS)
        return this.#halt("TX_TOO_MANY_DESCS", `a packet of more than ${MAX_DESCS} descriptors`);
      const first = txDesc.firstOf(lenCtrl) === 1;
      const last = txDesc.lastOf(lenCtrl) === 1;
      if (txDesc.isMetaOf(lenCtrl) === 1) {
        if (descs !== 1 || !first || last) {
          return this.#halt("TX_META_MISPLACED", "a meta descriptor that does not begin a packet");
        }
        this.#storeMeta(view, at);
        metaSeen = true;
      } else {
        if (buffers === 0) {
          if (first === metaSeen) {
            return this.#halt(
              "TX_FIRST_MISSING",
              "a packet begins without the first bit, or has it twice",
            );
          }
          this.#lenCtrl = lenCtrl;
          this.#metaCtrl = txDesc.metaCtrl(view, at);
          this.#headerLength = llq === undefined ? 0 : txDesc.headerLength(view, at);
        } else if (first) return this.#halt("TX_FIRST_IN_MIDDLE", "a first bit inside a packet");
        if ((lenCtrl & LEN_CTRL_MBZ) !== 0) this.#breaks("TX_RESERVED_BITS");
        this.#addresses[buffers] = txDesc.address(view, at);
        this.#lengths[buffers] = txDesc.lengthOf(lenCtrl);
        buffers++;
        if (last) break;
      }
      at += TX_DESC_SIZE;
      if (--slots > 0) continue;
      if (entries === ring.depth)
        return this.#halt("TX_LAST_MISSING", "a packet longer than its ring");
      if (entries === readable) return INCOMPLETE;
      at = ring.at(entries);
      phase = ring.phase(entries);
      entries++;
      slots = llq === undefined ? 1 : llq.descsPerEntry;
    }
    this.#buffers = buffers;
    return this.#check(metaSeen) ? entries : STOPPED;
  }

  #storeMeta(view: DataView, at: number): void {
    const meta = this.#meta;
    if (txMeta.extValid(view, at) === 0 || txMeta.ethMetaType(view, at) === 0) {
      // This descriptor is empty. An earlier one still applies, unless the queue caches none.
      if (this.llq?.metaRequired === true) meta.valid = false;
      return;
    }
    meta.mss = txMeta.mss(view, at);
    meta.l3HdrLen = txMeta.l3HdrLen(view, at);
    meta.l3HdrOffset = txMeta.l3HdrOffset(view, at);
    meta.l4HdrLenWords = txMeta.l4HdrLenWords(view, at);
    meta.valid = true;
  }

  /** Checks the packet as a whole. Returns false if the queue had to stop. */
  #check(metaSeen: boolean): boolean {
    const reqId = txDesc.reqIdOf(this.#lenCtrl, this.#metaCtrl);
    if (this.#inFlight.has(reqId)) {
      this.#halt("TX_REQ_ID_IN_FLIGHT", `request id ${reqId} is not completed yet`);
      return false;
    }
    this.#reqId = reqId;
    if (this.llq !== undefined && this.#headerLength > this.llq.headerRoom) {
      this.#breaks("TX_HEADER_LENGTH");
    }
    if (this.llq?.metaRequired === true && !metaSeen) this.#breaks("TX_META_REQUIRED");
    let length = this.#headerLength;
    for (let i = 0; i < this.#buffers; i++) {
      const part = this.#lengths[i]!;
      // Only with a header in the entry may the packet have an empty buffer, the first one.
      if (part === 0 && (i > 0 || this.#headerLength === 0)) this.#breaks("TX_ZERO_LENGTH");
      if (this.#addresses[i]! + part > ADDRESS_END) this.#breaks("TX_ADDRESS_RANGE");
      length += part;
    }
    const tso = txDesc.tsoEnableOf(this.#metaCtrl) === 1;
    const limit = tso ? MAX_FRAME_BYTES : this.context.host.config.maxMtu + L2_BYTES;
    if (length > limit) this.#breaks("TX_TOO_LONG");
    if (length < ETHER_HEADER_BYTES) this.#breaks("TX_TOO_SHORT");
    return true;
  }

  /** Builds the frame from pushed bytes. Returns false if some are missing. */
  #gather(): boolean {
    const { memory } = this.context.host;
    const frame = this.#frame;
    const span = this.#span;
    this.#begin();
    for (let i = 0; i < this.#buffers; i++) {
      const length = this.#lengths[i]!;
      if (length === 0) continue;
      if (!memory.pushes.find(this.#addresses[i]!, length, span)) return false;
      frame.push(span.buffer, span.at, length);
    }
    return true;
  }

  #begin(): void {
    this.#frame.reset();
    const { local } = this.ring;
    if (local !== undefined && this.#headerLength > 0) {
      this.#frame.push(local, this.#headerAt, this.#headerLength);
    }
  }

  /** Reads the bytes that were not pushed (slow path). The queue waits. */
  async #read(): Promise<void> {
    const { memory } = this.context.host;
    const parts: (Uint8Array | Promise<Uint8Array>)[] = [];
    let got: Uint8Array[] = [];
    try {
      for (let i = 0; i < this.#buffers; i++) parts.push(this.#part(i));
      got = await Promise.all(parts);
    } catch {
      if (this.stage !== Stage.READING) return;
      this.#broken = "TX_READ_REFUSED";
      this.#brokenReason = DropReason.HOST_REFUSED;
    }
    if (this.stage !== Stage.READING) return;
    if (this.#broken === "") {
      this.#begin();
      for (let i = 0; i < this.#buffers && this.#broken === ""; i++) {
        const length = this.#lengths[i]!;
        if (length === 0) continue;
        const bytes = got[i]!;
        if (bytes.length === length) this.#frame.push(bytes, 0, length);
        // PUSHED: the bytes are looked up again, because views may have moved.
        else if (memory.pushes.find(this.#addresses[i]!, length, this.#span)) {
          this.#frame.push(this.#span.buffer, this.#span.at, length);
        } else this.#breaks("TX_READ_SHORT");
      }
      if (this.#broken === "") this.#prepare();
    }
    this.#wakeUp();
    this.#onReady();
  }

  #part(i: number): Uint8Array | Promise<Uint8Array> {
    const { memory } = this.context.host;
    const length = this.#lengths[i]!;
    const address = this.#addresses[i]!;
    if (length === 0 || memory.pushes.find(address, length, this.#span)) return PUSHED;
    const window = memory.window(address, length);
    if (window === undefined) return memory.read(Space.BUS, address, length);
    const at = address - window.address;
    return window.bytes.subarray(at, at + length);
  }

  /** Sets the offload facts of the frame, whose bytes are complete. */
  #prepare(): void {
    if (this.#broken !== "") return;
    const error = this.#offloads.apply(this.#frame, this.#metaCtrl, this.#meta);
    if (error !== "") this.#breaks(error);
  }

  #drop(): void {
    this.drops++;
    this.context.counters.txDrops++;
    this.#port.drop(this.#brokenReason, "in");
    this.context.note(
      this.#broken,
      `tx queue ${this.index}, request ${this.#reqId}: packet dropped`,
    );
  }

  #complete(): void {
    this.#release();
    if (txDesc.compReqOf(this.#lenCtrl) === 0) this.#inFlight.delete(this.#reqId);
    else if (this.context.pick === undefined) this.#post(this.#reqId);
    else this.#shuffled.push(this.#reqId);
  }

  #post(reqId: number): void {
    const { ring } = this.cq;
    this.#inFlight.delete(reqId);
    this.context.kept.packets++;
    txCdesc.write(
      ring.view,
      ring.at,
      reqId,
      0,
      ring.cursor.phase,
      this.index,
      this.ring.cursor.head,
    );
    ring.next();
  }

  #release(): void {
    const { host, kept } = this.context;
    for (let i = 0; i < this.#buffers; i++) {
      if (this.#lengths[i] === 0) continue;
      host.memory.pushes.release(this.#addresses[i]!);
      kept.bytes += this.#lengths[i]!;
    }
  }

  /** Releases the pushes of announced descriptors, which will not be read any more. */
  #releaseRing(): void {
    const { ring, llq } = this;
    let slots = llq?.descsBeforeHeader ?? 1;
    for (let entry = 0; entry < ring.readable; entry++) {
      let ended = false;
      for (let slot = 0; slot < slots && !ended; slot++) {
        const at = ring.at(entry) + slot * TX_DESC_SIZE;
        ended = txDesc.last(ring.view, at) === 1;
        if (txDesc.isMeta(ring.view, at) === 1 || txDesc.length(ring.view, at) === 0) continue;
        this.context.host.memory.pushes.release(txDesc.address(ring.view, at));
      }
      // In the first entry of a packet, the bytes behind the descriptors are its header.
      slots = (ended ? llq?.descsBeforeHeader : llq?.descsPerEntry) ?? 1;
    }
  }

  #breaks(code: string): void {
    if (this.#broken === "") this.#broken = code;
  }

  #halt(code: string, text: string): typeof STOPPED {
    this.stop(code, text);
    return STOPPED;
  }
}

/** Marks a pushed buffer among those that were read. Buffers that were read are never empty. */
const PUSHED = new Uint8Array(0);
