/**
 * What a driver and a device in one process have in common, whatever their personality: two queues
 * of steps, delivered at `pump`, a clock, and the segment and the stack at the two ends.
 */
import type { Nic } from "../../device/nic.ts";
import { type DropReason, type Port, type SwitchPort, Verdict } from "../../device/switch/port.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import type { Driver } from "../../frontend/driver.ts";
import { Mbuf } from "../../frontend/net/mbuf.ts";
import type { Logger } from "../../shared/log.ts";
import { Frame } from "../../shared/net/frame.ts";
import { TestClock } from "./test-clock.ts";

/** A frame as the segment got it: bytes copied, facts kept. */
export interface Delivered {
  readonly bytes: Uint8Array;
  readonly needsCsum: boolean;
  readonly csumStart: number;
  readonly csumOffset: number;
  readonly csumValid: boolean;
  readonly gso: number;
  readonly gsoSize: number;
}

/** A packet as the stack got it. */
export interface Input {
  readonly bytes: Uint8Array;
  readonly csumFlags: number;
  readonly tsoSegsz: number;
  readonly pieces: number;
  readonly flowId: number;
  readonly hashType: number;
}

/** One incarnation of the device, as far as a pair has to know it. */
export interface DeviceSide {
  readonly nic: Nic;
  readonly port: Port | undefined;
}

/** `Act` is what the device posts. */
export abstract class NicPair<Act> {
  abstract readonly driver: Driver;
  readonly space: DmaSpace;
  /** What the driver sent, as it arrived in the segment. */
  readonly segment: Delivered[] = [];
  /** What the stack above the driver got. */
  readonly inputs: Input[] = [];
  readonly deviceFaults: string[] = [];
  readonly driverFaults: string[] = [];
  linkStates: boolean[] = [];
  readyCalls = 0;
  inputDones = 0;
  readonly clock = new TestClock();
  /** As DeviceLink.writable. */
  writable = true;
  /** Returns what reaches the driver in the place of an act: nothing, it, or more. */
  tamper: ((act: Act) => readonly Act[]) | undefined;
  /** What the stack does with a packet, beside being recorded. */
  onInput: ((m: Mbuf) => void) | undefined;
  /** Mbufs handed to transmit and not freed yet. */
  outstanding = 0;
  toDevice: (() => void)[] = [];
  toDriver: (() => void)[] = [];

  constructor(log: Logger) {
    this.space = new DmaSpace({ log, now: this.clock.now });
  }

  /** The device at the other end; undefined while there is none. */
  protected abstract get far(): DeviceSide | undefined;
  /** Brings one act to the driver. */
  protected abstract apply(act: Act): void;

  get plugged(): boolean {
    return this.far !== undefined;
  }

  /** Takes the stack's place on top of the driver. */
  protected listen(): void {
    const { ifnet } = this.driver;
    ifnet.onLinkState = (up) => this.linkStates.push(up);
    ifnet.onTransmitReady = () => this.readyCalls++;
    ifnet.inputDone = () => this.inputDones++;
    ifnet.input = (m) => {
      this.inputs.push(inputOf(m));
      if (this.onInput !== undefined) this.onInput(m);
      else m.free();
    };
  }

  /** Attach, up, link up. */
  async start(): Promise<void> {
    await this.run(this.driver.attach());
    await this.run(this.driver.up());
    await this.settle();
  }

  /** Delivers everything there is and what comes of it, in one turn. True when there was any. */
  pump(): boolean {
    let any = false;
    while (this.toDevice.length > 0 || this.toDriver.length > 0) {
      any = true;
      const down = this.toDevice;
      this.toDevice = [];
      for (const step of down) step();
      this.far?.nic.batchEnd();
      this.pumpUp();
    }
    return any;
  }

  /** Delivers what the device has posted, as one batch. */
  pumpUp(): void {
    const up = this.toDriver;
    if (up.length === 0) return;
    this.toDriver = [];
    for (const step of up) step();
    if (this.plugged) this.driver.batchApplied();
  }

  /** Pumps until nothing has moved for a few turns of the event loop. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 4; ) {
      quiet = this.pump() ? 0 : quiet + 1;
      await turn();
    }
  }

  /** Pumps until the promise settles; when nothing is under way, until the next timer runs. */
  async run<T>(promise: Promise<T>): Promise<T> {
    let done = false;
    const mark = (): void => {
      done = true;
    };
    promise.then(mark, mark);
    for (let quiet = 0; !done; quiet++) {
      if (this.pump()) quiet = 0;
      // Nothing moves any more: time itself is waited for.
      if (quiet > 8) this.clock.advanceToNext();
      await turn();
    }
    return promise;
  }

  /** One second passes on both sides. */
  async second(): Promise<void> {
    this.clock.advance(1000);
    this.far?.nic.tick();
    this.pump();
    this.driver.tick();
    await this.settle();
  }

  /** A frame from the segment to the NIC. Answers why it was not taken. */
  inject(bytes: Uint8Array, facts: Partial<Frame> = {}): DropReason | undefined {
    const port = this.far?.port;
    if (port === undefined) throw new Error("the NIC has no port");
    const frame = new Frame();
    frame.push(bytes, 0, bytes.length);
    Object.assign(frame, facts);
    return port.deliver(frame);
  }

  flushPort(): void {
    this.far?.port?.flush();
  }

  /** An mbuf over these pieces that counts itself in `outstanding`. */
  mbuf(...pieces: Uint8Array[]): Mbuf {
    let head: Mbuf | undefined;
    let last: Mbuf | undefined;
    let length = 0;
    for (const piece of pieces) {
      const m = new Mbuf();
      m.attach(piece, 0, piece.length, last === undefined ? this.#release : undefined);
      if (last !== undefined) last.next = m;
      head ??= m;
      last = m;
      length += piece.length;
    }
    if (head === undefined) throw new Error("an mbuf without pieces");
    head.pktLength = length;
    this.outstanding++;
    return head;
  }

  /** Sends; frees what is refused. Returns transmit's answer. */
  send(...pieces: Uint8Array[]): number {
    return this.sendMbuf(this.mbuf(...pieces));
  }

  sendMbuf(m: Mbuf): number {
    const errno = this.driver.ifnet.send(m);
    if (errno !== 0) m.free();
    return errno;
  }

  /** A counter by path: `counter("queue0", "tx_ring", "count")`. */
  counter(...path: string[]): number {
    let at: unknown = this.driver.counters();
    for (const name of path) at = (at as Record<string, unknown>)[name];
    if (typeof at !== "number") throw new Error(`no counter ${path.join(".")}`);
    return at;
  }

  /** Queues what the device posts, tampered with. */
  post(act: Act): void {
    const acts = this.tamper === undefined ? [act] : this.tamper(act);
    for (const one of acts) this.toDriver.push(() => this.apply(one));
  }

  readonly #release = (): void => {
    this.outstanding--;
  };
}

function inputOf(m: Mbuf): Input {
  const parts: Uint8Array[] = [];
  for (let piece: Mbuf | undefined = m; piece !== undefined; piece = piece.next) {
    parts.push(piece.buffer.subarray(piece.at, piece.at + piece.length));
  }
  const bytes = new Uint8Array(Buffer.concat(parts));
  if (bytes.length !== m.pktLength) throw new Error(`${bytes.length} bytes, says ${m.pktLength}`);
  const { csumFlags, tsoSegsz, flowId, hashType } = m;
  return { bytes, csumFlags, tsoSegsz, pieces: parts.length, flowId, hashType };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The segment at a pair's device: takes every frame, and copies it. */
export class SegmentEnd implements SwitchPort {
  readonly #pair: { readonly segment: Delivered[] };
  onReady: (() => void) | undefined;

  constructor(pair: { readonly segment: Delivered[] }) {
    this.#pair = pair;
  }

  input(frame: Frame): Verdict {
    const bytes = new Uint8Array(frame.length);
    frame.copyTo(bytes, 0, 0, frame.length);
    const { needsCsum, csumStart, csumOffset, csumValid, gso, gsoSize } = frame;
    this.#pair.segment.push({ bytes, needsCsum, csumStart, csumOffset, csumValid, gso, gsoSize });
    return Verdict.DONE;
  }

  flush(): void {}
  roomAgain(): void {}
  drop(): void {}
  readonly taken = 0;

  detach(): void {}
}
