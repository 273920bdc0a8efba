/**
 * The port of a client that carries bare Ethernet frames over WebSocket: one binary message is one
 * frame, without a header. Virtual machines in browsers speak it (v86, jor1k), and relays such as
 * wsnic and websockproxy.
 *
 *   client ══ WebSocket ══► onMessage ──► SwitchPort.input     refused with HELD: dropped
 *   client ◄═ WebSocket ═══ send ◄─────── deliver              a slow client: dropped
 *
 * The client is a host of its own behind an untrusted port. It has the storm limits of a NIC, few
 * addresses, and none that is known behind another port.
 *
 * Source: copy/v86: docs/networking.md (backend wsproxy).
 */
import type { Logger } from "../../shared/log.ts";
import type { MemoryAccount } from "../../shared/memory-budget.ts";
import { L2_BYTES } from "../../shared/net/ethernet.ts";
import { Frame } from "../../shared/net/frame.ts";
import { FRAME_ROOM } from "../../shared/transport/frames.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { CloseCode } from "../../shared/wire/protocol.ts";
import type { Identity } from "../access/gate.ts";
import { DropReason, type Port, type SwitchPort, Verdict } from "../switch/port.ts";
import type { Switch } from "../switch/switch.ts";

/** MTU of a client. Clients of this kind know no other, and no way to agree on one. */
const MTU = 1500;
/** Bytes that may wait for a client before its frames are dropped. */
const BACKLOG_BYTES = 1 << 20;
/** Words for the port of a client at a device without a list of clients. */
const NAMELESS = "ethernet";

export interface EthernetClientOptions {
  readonly segment: Switch;
  readonly identity: Identity;
  /** HOST:PORT of the client. */
  readonly peer: string;
  readonly account: MemoryAccount;
  readonly log: Logger;
  /** Returns whether a NIC has the name. */
  isTaken(name: string): boolean;
  /** Called once, when the port has left the segment. */
  onGone(client: EthernetClient): void;
}

export class EthernetClient implements Port {
  readonly name: string;
  readonly kind = "ws-ethernet";
  readonly isClient = true;
  readonly offloads = { csum: false, tso4: false, tso6: false };
  readonly maxFrameBytes = MTU + L2_BYTES;
  readonly #transport: Transport;
  readonly #switchPort: SwitchPort;
  readonly #frame = new Frame();
  /** True when the segment has received frames since the last flush. */
  #unflushed = false;
  /** True when a sender may wait for room here. */
  #isFull = false;
  readonly #sent = (): void => this.#drained();

  /** Attaches the client to the segment. It leaves when its connection ends. */
  constructor(transport: Transport, options: EthernetClientOptions) {
    const { segment, identity, peer, account, log, isTaken, onGone } = options;
    this.#transport = transport;
    this.name = nameOf(identity.id ?? NAMELESS, (name) => segment.hasPort(name) || isTaken(name));
    this.#switchPort = segment.attach(this);
    const fields = { port: this.name, segment: segment.name, peer };
    const forget = identity.use((why) => transport.abort(CloseCode.REFUSED, why));
    transport.onMessage = (bytes, at, length) => this.#receive(bytes, at, length);
    transport.onClose = (code, reason) => {
      this.#switchPort.detach();
      account.close();
      forget();
      log.info({ ...fields, code }, `${this.name} left: ${reason || "connection lost"}`);
      onGone(this);
    };
    log.info(fields, `${this.name} joined`);
  }

  /** Ends the connection. */
  close(code: CloseCode, reason: string): void {
    this.#transport.close(code, reason);
  }

  deliver(frame: Frame): DropReason | undefined {
    if (!this.ready()) return DropReason.LINK_BACKLOG;
    const { length } = frame;
    const message = new Uint8Array(FRAME_ROOM + length);
    frame.copyTo(message, FRAME_ROOM, 0, length);
    this.#transport.send(message, FRAME_ROOM, length, this.#sent);
    return undefined;
  }

  ready(): boolean {
    const hasRoom = this.#transport.unsentBytes < BACKLOG_BYTES;
    if (!hasRoom) this.#isFull = true;
    return hasRoom || !this.#transport.open;
  }

  /** Nothing to do at the end of a burst: `deliver` has passed every frame on. */
  flush(): void {}

  #drained(): void {
    if (!this.#isFull || this.#transport.unsentBytes >= BACKLOG_BYTES) return;
    this.#isFull = false;
    // Not now: this may run while the switch delivers a frame.
    setImmediate(() => this.#switchPort.roomAgain());
  }

  #receive(bytes: Uint8Array, at: number, length: number): void {
    if (length > this.maxFrameBytes) {
      this.#switchPort.drop(DropReason.TOO_BIG, "in");
      return;
    }
    const frame = this.#frame;
    frame.reset();
    frame.push(bytes, at, length);
    // The bytes are valid during this call only, so a frame can't wait here.
    if (this.#switchPort.input(frame) === Verdict.HELD) {
      this.#switchPort.drop(DropReason.QUEUE_FULL, "in");
    }
    if (this.#unflushed) return;
    this.#unflushed = true;
    setImmediate(() => {
      this.#unflushed = false;
      this.#switchPort.flush();
    });
  }
}

/** Returns the name of a client's port: its id, with a number if that is taken. */
function nameOf(id: string, isTaken: (name: string) => boolean): string {
  for (let n = 1; ; n++) {
    const name = n === 1 ? id : `${id}-${n}`;
    if (!isTaken(name)) return name;
  }
}
