/**
 * Captured packets as text: a line for each frame, and a line for each transaction of a batch. Only
 * the time in a line depends on the run, so two runs can be compared.
 *
 *   0.000731 ena0     out q0 98 02:00:00:00:00:0a > 02:00:00:00:00:0b IPv4 ... #1
 *   0.000745 ena0:ring -> mmio_write 1 record: doorbell of tx SQ 0 = 0x1
 */

import { frameBytes, heldBytes } from "../../shared/capture/frame-bytes.ts";
import { LinkDirection, parseRingPacket } from "../../shared/capture/ring-header.ts";
import { LinkType } from "../../shared/pcapng/layout.ts";
import type { CapturedPacket } from "../../shared/pcapng/packet.ts";
import { printable } from "../../shared/pcapng/text.ts";
import { Tracer } from "../trace/wire.ts";
import { frameText } from "./frame-text.ts";

const DIRECTIONS = ["?", "in", "out", "?"] as const;
/** Number of packet ids remembered. The copies of a frame are close together. */
const MAX_IDS = 65_536;
/** Transactions that only report time and received bytes, so they differ between two runs. */
const PULSE = /^(->|<-) (heartbeat|progress) /;

export class PacketText {
  readonly #times: boolean;
  #firstNs: bigint | undefined;
  /** Tracers by interface and epoch, because each connection has doorbells of its own. */
  readonly #tracers = new Map<string, Tracer>();
  /** Printed ids (1, 2, 3 ... in order of appearance) by the device's packet ids. */
  readonly #ids = new Map<bigint, number>();
  #lastId = 0;

  constructor(times: boolean) {
    this.#times = times;
  }

  /** Returns lines safe for a terminal; none for a batch of heartbeats when times are left out. */
  lines(packet: CapturedPacket): string[] {
    return this.#lines(packet).map(printable);
  }

  #lines(packet: CapturedPacket): string[] {
    const time = this.#times ? `${this.#seconds(packet)} ` : "";
    const name = (packet.interface.name ?? "?").padEnd(8);
    const notes = [...packet.comments];
    if (packet.drops !== undefined) notes.push(`${packet.drops} before it were not captured`);
    const tail = notes.map((note) => ` [${note}]`).join("");
    if (packet.linkType !== LinkType.ETHERNET) {
      return this.#transactions(packet).map((line) => `${time}${name} ${line}${tail}`);
    }
    const direction = DIRECTIONS[packet.flags & 3]!.padEnd(3);
    const queue = packet.queue === undefined ? "-" : `q${packet.queue}`;
    const id = packet.id === undefined ? "" : ` #${this.#id(packet.id)}`;
    const what = frameText(packet.bytes.subarray(0, heldBytes(packet)));
    return [`${time}${name} ${direction} ${queue} ${frameBytes(packet)} ${what}${id}${tail}`];
  }

  /** Returns the packet as an object for JSON. */
  value(packet: CapturedPacket): object {
    const { interface: from, flags, originalLength, capturedLength, comments } = packet;
    const common = {
      ...(this.#times && packet.tsNs !== undefined ? { timeNs: String(packet.tsNs) } : {}),
      interface: from.name ?? "",
      direction: DIRECTIONS[flags & 3],
      length: originalLength,
      captured: capturedLength,
      ...(packet.drops === undefined ? {} : { dropsBefore: Number(packet.drops) }),
      ...(comments.length === 0 ? {} : { comments }),
    };
    if (packet.linkType !== LinkType.ETHERNET) {
      const event = parseRingPacket(packet.bytes)?.isState === true ? "state" : "batch";
      return { event, ...common, transactions: this.#transactions(packet) };
    }
    return {
      event: "frame",
      ...common,
      ...(packet.queue === undefined ? {} : { queue: packet.queue }),
      ...(packet.id === undefined ? {} : { id: this.#id(packet.id) }),
      text: frameText(packet.bytes.subarray(0, heldBytes(packet))),
    };
  }

  #transactions(packet: CapturedPacket): string[] {
    const ring = parseRingPacket(packet.bytes);
    if (ring === undefined) return ["! no batch of ringwire"];
    const key = `${packet.interface.index} ${ring.epoch}`;
    let tracer = this.#tracers.get(key);
    if (tracer === undefined) {
      tracer = new Tracer();
      // A new epoch ends the previous connection of this interface.
      for (const known of this.#tracers.keys()) {
        if (known.startsWith(`${packet.interface.index} `)) this.#tracers.delete(known);
      }
      this.#tracers.set(key, tracer);
    }
    if (ring.isState) return tracer.state(ring.bytes);
    const direction = ring.direction === LinkDirection.TO_DEVICE ? "out" : "in";
    const lines = tracer.trace(direction, ring.bytes);
    return this.#times ? lines : lines.filter((line) => !PULSE.test(line));
  }

  #seconds({ tsNs = 0n }: CapturedPacket): string {
    this.#firstNs ??= tsNs;
    const us = (tsNs - this.#firstNs) / 1000n;
    return `${us / 1_000_000n}.${String(us % 1_000_000n).padStart(6, "0")}`;
  }

  #id(id: bigint): number {
    let known = this.#ids.get(id);
    if (known === undefined) {
      known = ++this.#lastId;
      this.#ids.set(id, known);
      if (this.#ids.size > MAX_IDS) this.#ids.delete(this.#ids.keys().next().value!);
    }
    return known;
  }
}
