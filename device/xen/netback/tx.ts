/**
 * Transmit: turns the guest's requests into frames for the switch, and answers the requests.
 *
 *   IDLE --packet read, credit, bytes here--> offered --> answered
 *     |--no credit-------> CREDIT --time passes-----> (the bytes are looked for)
 *     '--not pushed------> READING --read-----------> READY
 *                          offered, no room --> HELD --room again--> READY
 *
 * A queue works alone and in order, so a packet's responses lie in the slots of its requests. A
 * packet that waits for a read or for room pins its grants, so that its guest can't take the pages
 * back. The pins end before the responses, in the same batch. The bytes are those that were pushed;
 * bytes that were not pushed are read. Every piece is first checked against the grant table, as for
 * a grant copy.
 */
import { ETHER_HEADER_BYTES, macHigh, macLow } from "../../../shared/net/ethernet.ts";
import type { QueueId } from "../../../shared/net/frame.ts";
import type { XenQueueStatus } from "../../../shared/status/device-status.ts";
import { Space } from "../../../shared/wire/records.ts";
import { ExtraType } from "../../../shared/xen/extra.ts";
import { Gntst } from "../../../shared/xen/grant.ts";
import { NetifStatus, txResponse } from "../../../shared/xen/netif.ts";
import { BACKEND_DOMID } from "../../../shared/xen/xenbus.ts";
import { grantPush } from "../../dma/host-memory.ts";
import { DropReason, Verdict } from "../../switch/port.ts";
import { type BackRing, OVERRUN } from "./back-ring.ts";
import type { NetbackContext } from "./config.ts";
import { Credit } from "./credit.ts";
import type { Netback } from "./netback.ts";
import { TxFrame } from "./tx-frame.ts";
import { FATAL_SLOTS, TxPacket } from "./tx-packet.ts";

const Stage = { IDLE: 0, CREDIT: 1, READING: 2, READY: 3, HELD: 4, CLOSED: 5 } as const;
type Stage = (typeof Stage)[keyof typeof Stage];
const STAGE_NAMES = ["idle", "credit", "reading", "ready", "held", "closed"] as const;

/** Marks a pushed piece among pieces that were read. */
const PUSHED = new Uint8Array(0);

export class TxQueue {
  readonly index: QueueId;
  readonly ring: BackRing;
  readonly credit: Credit;
  /** `creditWaits`: packets that waited for credit. */
  readonly #counts = { packets: 0, bytes: 0, drops: 0, reads: 0, creditWaits: 0 };
  readonly #vif: Netback;
  readonly #packet = new TxPacket();
  readonly #built = new TxFrame();
  readonly #grants: NetbackContext["grants"];
  readonly #memory: NetbackContext["host"]["memory"];
  /** 1 for each piece whose grant is pinned. */
  readonly #pins = new Uint8Array(FATAL_SLOTS);
  #pinned = false;
  /** True if the current packet had to wait. */
  #waited = false;
  #stage: Stage = Stage.IDLE;
  /** Fault code of the current packet if it is lost, else "". `#status` goes into its responses. */
  #lost = "";
  #reason: DropReason = DropReason.TX_MALFORMED;
  #status: NetifStatus = NetifStatus.OKAY;
  /** Work of the current packet's copies beyond that of the packet. */
  #floodWork = 0;

  constructor(vif: Netback, index: QueueId, ring: BackRing) {
    this.#vif = vif;
    this.index = index;
    this.ring = ring;
    const { grants, host } = vif.context;
    this.#grants = grants;
    this.#memory = host.memory;
    this.credit = new Credit(host.clock.now);
  }

  get stage(): string {
    return STAGE_NAMES[this.#stage];
  }

  /** True while a packet waits for credit. */
  get starved(): boolean {
    return this.#stage === Stage.CREDIT;
  }

  /** True if the guest may be waiting for a response. */
  get isUrgent(): boolean {
    const { ring } = this;
    return ring.staged > 0 && !this.#vif.kept.mayWait(ring.occupied, ring.size);
  }

  /** Called before responses are sent. Asks for an event at the next request, if there is none. */
  beforeResponses(): void {
    if (this.#stage === Stage.IDLE && this.ring.look() === 0) this.ring.arm(1);
  }

  /**
   * Processes up to `budget` packets, fewer when the ring is empty or a packet waits. Returns the
   * work done, in packets, which may exceed `budget`.
   */
  run(budget: number): number {
    let done = 0;
    while (done < budget && this.#advance()) done += this.#packet.work + this.#floodWork;
    if (done > 0) this.#built.forget();
    return done;
  }

  /** Advances one packet as far as possible. Returns true if the packet was answered. */
  #advance(): boolean {
    if (this.#stage === Stage.IDLE && !this.#next()) return false;
    if (this.#stage <= Stage.CREDIT) {
      if (!this.credit.take(this.#packet.total)) {
        if (this.#stage === Stage.IDLE) this.#counts.creditWaits++;
        this.#stage = Stage.CREDIT;
        this.#hasToWait();
        return false;
      }
      this.#stage = Stage.READY;
      if (this.#packet.multicast !== ExtraType.NONE) this.#amend();
      else if (this.#sound() && !this.#gather()) {
        this.#startReading();
        return false;
      } else this.#build();
    }
    return this.#stage === Stage.READY && this.#offer();
  }

  /** Reads the slots of the next packet. Returns false if there is none, or after a fatal error. */
  #next(): boolean {
    const { ring } = this;
    const packet = this.#packet;
    const available = ring.look();
    if (available === OVERRUN) {
      this.#fatal("TX_REQ_PROD", "more requests than slots");
      return false;
    }
    if (available === 0) return false;
    if (!packet.read(ring, available)) {
      this.#fatal(packet.fatal, `a packet of ${packet.slots} slots and ${packet.extras} extra`);
      return false;
    }
    ring.consume(packet.slots + packet.extras);
    this.#floodWork = 0;
    this.#lost = "";
    this.#status = NetifStatus.OKAY;
    return true;
  }

  /** Checks the packet as a whole, before its bytes are used. Returns false if it is lost. */
  #sound(): boolean {
    const { total, broken, gsoSize } = this.#packet;
    if (broken !== "") this.#lose(broken, DropReason.TX_MALFORMED, NetifStatus.ERROR);
    else if (total < ETHER_HEADER_BYTES) {
      this.#lose("TX_TOO_SHORT", DropReason.TX_MALFORMED, NetifStatus.ERROR);
    } else if (gsoSize === 0 && total > this.#vif.context.maxFrameBytes) {
      this.#lose("TX_TOO_LONG", DropReason.TOO_BIG, NetifStatus.ERROR);
    }
    return this.#lost === "";
  }

  /** Changes the list of groups. Such a request carries no packet. */
  #amend(): void {
    const { multicast } = this.#vif;
    const { group } = this.#packet;
    const high = macHigh(group, 0);
    const low = macLow(group, 0);
    if (this.#packet.multicast === ExtraType.MCAST_DEL) multicast.remove(high, low);
    else if (!multicast.add(high, low)) this.#status = NetifStatus.ERROR;
  }

  /** Finds the bytes of every piece. Returns false if some were not pushed. */
  #gather(): boolean {
    const grants = this.#grants;
    const { grefs, offsets, sizes, slots } = this.#packet;
    let complete = true;
    for (let i = 0; i < slots; i++) {
      const size = sizes[i]!;
      if (size === 0) continue;
      const gref = grefs[i]!;
      const offset = offsets[i]!;
      const status = grants.checkCopy(gref, offset, size, false, BACKEND_DOMID);
      if (status !== Gntst.OKAY) {
        this.#lose("TX_GRANT_REFUSED", DropReason.HOST_REFUSED, NetifStatus.ERROR);
        return true;
      }
      if (!this.#findPushed(i)) complete = false;
    }
    return complete;
  }

  #build(): void {
    if (this.#lost !== "" || this.#packet.multicast !== ExtraType.NONE) return;
    if (!this.#built.build(this.#packet)) {
      this.#lose("TX_HEADERS", DropReason.MALFORMED_OFFLOAD, NetifStatus.DROPPED);
    }
  }

  /** Sends the current packet to the switch and answers it. Returns false if it must wait. */
  #offer(): boolean {
    const { port } = this.#vif;
    const packet = this.#packet;
    if (this.#lost !== "") {
      this.#counts.drops++;
      port.drop(this.#reason, "in");
      this.#vif.note(this.#lost, `tx queue ${this.index}, id ${packet.ids[0]}: packet dropped`);
    } else if (packet.multicast === ExtraType.NONE) {
      const { frame } = this.#built;
      frame.queue = this.index;
      if (port.input(frame) === Verdict.HELD) {
        this.#stage = Stage.HELD;
        this.#hasToWait();
        frame.keep();
        this.#pin();
        return false;
      }
      this.#floodWork = port.work - 1;
      this.#counts.packets++;
      this.#counts.bytes += frame.length;
    }
    this.#release();
    this.#answer();
    this.#stage = Stage.IDLE;
    return true;
  }

  /** The packet waits, and perhaps its sender does: until its response, none may be kept. */
  #hasToWait(): void {
    this.#waited = true;
    this.#vif.kept.urgent = true;
  }

  /** Called when the switch has room again. */
  resume(): void {
    if (this.#stage === Stage.HELD) this.#stage = Stage.READY;
  }

  /** Closes the queue and the ring's mapping. No request is answered afterwards. */
  close(): void {
    if (this.#stage === Stage.CLOSED) return;
    if (this.#stage !== Stage.IDLE) this.#release();
    this.#stage = Stage.CLOSED;
    this.ring.close();
  }

  #startReading(): void {
    this.#stage = Stage.READING;
    this.#hasToWait();
    this.#counts.reads++;
    this.#pin();
    // The use counts must reach the guest before the reads that they cover.
    this.#vif.context.grants.flushUses();
    void this.#read();
  }

  /** Reads the bytes that were not pushed (slow path). */
  async #read(): Promise<void> {
    const { pieces } = this.#built;
    const { sizes, slots } = this.#packet;
    const parts: (Uint8Array | Promise<Uint8Array>)[] = [];
    let got: Uint8Array[] = [];
    try {
      for (let i = 0; i < slots; i++) parts.push(this.#piece(i));
      got = await Promise.all(parts);
    } catch {
      if (this.#stage !== Stage.READING) return;
      this.#lose("TX_READ_REFUSED", DropReason.HOST_REFUSED, NetifStatus.ERROR);
    }
    if (this.#stage !== Stage.READING) return;
    for (let i = 0; i < slots && this.#lost === ""; i++) {
      if (sizes[i] === 0) continue;
      const piece = pieces[i]!;
      if (got[i] !== PUSHED) {
        piece.buffer = got[i]!;
        piece.at = 0;
        // Pushed bytes are looked up again, because their views may have moved.
      } else if (!this.#findPushed(i)) {
        this.#lose("TX_PUSH_GONE", DropReason.TX_FAULT, NetifStatus.ERROR);
      }
    }
    this.#build();
    this.#stage = Stage.READY;
    this.#vif.wake();
  }

  #piece(i: number): Uint8Array | Promise<Uint8Array> {
    const size = this.#packet.sizes[i]!;
    if (size === 0 || this.#findPushed(i)) return PUSHED;
    return this.#memory.read(Space.GRANT, this.#packet.address(i), size);
  }

  /** Finds the bytes of piece `i` among those that were pushed. False if they were not. */
  #findPushed(i: number): boolean {
    const packet = this.#packet;
    const address = grantPush(packet.address(i));
    return this.#memory.pushes.find(address, packet.sizes[i]!, this.#built.pieces[i]!);
  }

  /** Pins each grant of the packet until `#release`. A grant that can't be pinned is skipped. */
  #pin(): void {
    if (this.#pinned) return;
    this.#pinned = true;
    const { grants } = this.#vif.context;
    const { grefs, sizes, slots } = this.#packet;
    for (let i = 0; i < slots; i++) {
      const isPinned = sizes[i] !== 0 && grants.pin(grefs[i]!, false) === Gntst.OKAY;
      this.#pins[i] = isPinned ? 1 : 0;
    }
  }

  /** Releases the pushed bytes and the pins of the packet. */
  #release(): void {
    const { pushes } = this.#memory;
    const packet = this.#packet;
    const { grefs, sizes, slots } = packet;
    let from = 0;
    let end = 0;
    for (let i = 0; i < slots; i++) {
      if (sizes[i] === 0) continue;
      this.#vif.kept.bytes += sizes[i]!;
      const at = grantPush(packet.address(i));
      // One push may have brought the bytes of several slots.
      if (at >= end || at < from) {
        from = at;
        end = pushes.release(at, packet.run(i));
      }
      if (this.#pinned && this.#pins[i] === 1) this.#grants.unpin(grefs[i]!, false);
    }
    this.#pinned = false;
  }

  /** Stages a response for every slot. The status of slots with extra info is NULL. */
  #answer(): void {
    const { ring } = this;
    const { ids, extras, slots } = this.#packet;
    const { kept } = this.#vif;
    kept.packets++;
    if (this.#waited) kept.urgent = true;
    this.#waited = false;
    txResponse.write(ring.view, ring.respond(), ids[0]!, this.#status);
    for (let i = 0; i < extras; i++) {
      txResponse.write(ring.view, ring.respond(), 0, NetifStatus.NULL);
    }
    for (let i = 1; i < slots; i++) {
      txResponse.write(ring.view, ring.respond(), ids[i]!, this.#status);
    }
  }

  #lose(code: string, reason: DropReason, status: NetifStatus): void {
    if (this.#lost !== "") return;
    this.#lost = code;
    this.#reason = reason;
    this.#status = status;
  }

  #fatal(code: string, text: string): void {
    this.#vif.fatal(code, `tx queue ${this.index}: ${text}`);
  }

  snapshot(): XenQueueStatus["tx"] {
    return {
      stage: this.stage,
      ...this.#counts,
      checksumFixups: this.#built.checksumFixups,
      ...(Number.isFinite(this.credit.bytes) ? { credit: this.credit.bytes } : {}),
      ring: this.ring.snapshot(),
    };
  }
}
