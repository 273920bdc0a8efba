/**
 * One NIC as the contract suite sees it, whichever it is.
 *
 *   test/contract/nic.test.ts ──► NicUnderTest ──► EnaUnderTest ──► EnaPair
 *                                             └──► XenUnderTest ──► XenPair
 *
 * What a stack above the driver and a segment below the device can do is the same for all. An
 * adapter holds what is not: how the device resets the driver, and where what is held is counted.
 */
import type { DropReason } from "../../device/switch/port.ts";
import type { Driver } from "../../frontend/driver.ts";
import type { Ifnet } from "../../frontend/net/ifnet.ts";
import type { Mbuf } from "../../frontend/net/mbuf.ts";
import type { Netmap } from "../../frontend/netmap/netmap.ts";
import type { Frame } from "../../shared/net/frame.ts";
import type { Delivered, Input } from "./nic-pair.ts";
import { EnaPair } from "./pair.ts";
import { XenPair } from "./xen-pair.ts";

export interface NicOptions {
  readonly queues?: number;
  readonly mtu?: number;
  /** Where the NIC's ports are to be opened. */
  readonly netmap?: Netmap;
  /** Bytes of pushes that the device holds for the NIC; more of them are an error of the test. */
  readonly pushBytes?: number;
}

/** Where the checksum of a packet that came in is to be finished, and how it is to be cut. */
export interface InputPlace {
  readonly csumStart: number;
  readonly csumOffset: number;
  readonly headerLength: number;
  readonly isIp6: boolean;
}

export interface NicUnderTest {
  readonly driver: Driver;
  readonly ifnet: Ifnet;
  /** What the driver sent, as the segment got it, oldest first. */
  readonly segment: readonly Delivered[];
  /** What the stack got, and of each packet what its header says beside. */
  readonly inputs: readonly Input[];
  readonly places: readonly InputPlace[];
  /** What onLinkState said, and how often onTransmitReady was called. */
  readonly linkStates: readonly boolean[];
  readonly readyCalls: number;
  /** Mbufs given to the driver that it has not freed. */
  readonly outstanding: number;
  /** What either side says that the other one broke. */
  readonly faults: readonly string[];

  attach(): Promise<void>;
  up(): Promise<void>;
  down(): Promise<void>;
  detach(): Promise<void>;
  /** Attach, up, and all that follows. */
  start(): Promise<void>;

  mbuf(...pieces: Uint8Array[]): Mbuf;
  /** transmit's answer; what is refused is freed. */
  sendMbuf(m: Mbuf): number;
  send(...pieces: Uint8Array[]): number;
  /** A frame from the segment; why it was not taken. `flush` ends a burst of them. */
  deliver(bytes: Uint8Array, facts?: Partial<Frame>): DropReason | undefined;
  flush(): void;

  /** Everything that is under way arrives, and what comes of it. */
  settle(): Promise<void>;
  /** One exchange of messages and no more. */
  step(): void;
  /** A second passes. */
  second(): Promise<void>;

  /** Has the link room for more? */
  setRoom(hasRoom: boolean): void;
  linkLost(): void;
  /** A link is back, with a device that knows nothing. */
  linkBack(): Promise<void>;
  /** The device makes the driver begin anew, with the link in place. */
  resetByDevice(): Promise<void>;
  /** As before a move: what was sent is finished, nothing more is sent. */
  suspend(): Promise<void>;

  /** Packets of each queue, out and in. */
  queueCounts(): { readonly tx: readonly number[]; readonly rx: readonly number[] };
  /** Frames that came while the interface was down and that the driver dropped. */
  readonly droppedDown: number;
  /** What the driver, and the device for it, hold: all 0 once it is detached. */
  held(): Readonly<Record<string, number>>;
  /** Bus space ever taken. */
  readonly busGranules: number;
}

abstract class PairNic<P extends EnaPair | XenPair> implements Omit<NicUnderTest, "held"> {
  readonly pair: P;
  readonly places: InputPlace[] = [];
  readonly #netmap: Netmap | undefined;

  constructor(pair: P, netmap: Netmap | undefined) {
    this.pair = pair;
    this.#netmap = netmap;
    const { ifnet } = pair.driver;
    const { input } = ifnet;
    ifnet.input = (m) => {
      const { csumStart, csumOffset, headerLength, isIp6 } = m;
      this.places.push({ csumStart, csumOffset, headerLength, isIp6 });
      input(m);
    };
  }

  get driver(): Driver {
    return this.pair.driver;
  }
  get ifnet(): Ifnet {
    return this.pair.driver.ifnet;
  }
  get segment(): readonly Delivered[] {
    return this.pair.segment;
  }
  get inputs(): readonly Input[] {
    return this.pair.inputs;
  }
  get linkStates(): readonly boolean[] {
    return this.pair.linkStates;
  }
  get readyCalls(): number {
    return this.pair.readyCalls;
  }
  get outstanding(): number {
    return this.pair.outstanding;
  }
  get faults(): readonly string[] {
    return [...this.pair.deviceFaults, ...this.pair.driverFaults];
  }
  get busGranules(): number {
    return this.pair.space.granules.end;
  }

  async attach(): Promise<void> {
    await this.#done(this.pair.driver.attach());
    // As frontend/nic.ts has it: what has no ports of its own gets the emulated adapter.
    if (this.#netmap?.hasInterface(this.ifnet.name) === false) {
      this.#netmap.addInterface(this.ifnet);
    }
  }
  up(): Promise<void> {
    return this.#done(this.pair.driver.up());
  }
  down(): Promise<void> {
    return this.#done(this.pair.driver.down());
  }
  detach(): Promise<void> {
    return this.#done(this.pair.driver.detach());
  }
  async start(): Promise<void> {
    await this.attach();
    await this.up();
  }

  mbuf(...pieces: Uint8Array[]): Mbuf {
    return this.pair.mbuf(...pieces);
  }
  sendMbuf(m: Mbuf): number {
    const errno = this.ifnet.send(m);
    if (errno !== 0) m.free();
    return errno;
  }
  send(...pieces: Uint8Array[]): number {
    return this.sendMbuf(this.mbuf(...pieces));
  }
  deliver(bytes: Uint8Array, facts: Partial<Frame> = {}): DropReason | undefined {
    return this.pair.inject(bytes, facts);
  }
  flush(): void {
    this.pair.flushPort();
  }

  settle(): Promise<void> {
    return this.pair.settle();
  }
  step(): void {
    this.pair.pump();
  }
  second(): Promise<void> {
    return this.pair.second();
  }

  setRoom(hasRoom: boolean): void {
    this.pair.writable = hasRoom;
    if (hasRoom) this.pair.driver.writableAgain();
  }
  linkLost(): void {
    this.pair.cut();
  }
  async linkBack(): Promise<void> {
    await this.pair.reconnect();
    await this.pair.settle();
  }

  abstract resetByDevice(): Promise<void>;
  abstract suspend(): Promise<void>;
  abstract queueCounts(): { readonly tx: readonly number[]; readonly rx: readonly number[] };
  abstract readonly droppedDown: number;

  async #done(step: Promise<void>): Promise<void> {
    await this.pair.run(step);
    await this.pair.settle();
  }
}

const driverOptions = (netmap: Netmap | undefined, pushBytes: number | undefined) => ({
  ...(netmap === undefined ? {} : { netmap }),
  ...(pushBytes === undefined ? {} : { pushBytes }),
});

class EnaUnderTest extends PairNic<EnaPair> implements NicUnderTest {
  constructor({ netmap, pushBytes, ...options }: NicOptions) {
    const budget = pushBytes === undefined ? {} : { pushBudget: pushBytes };
    const driver = driverOptions(netmap, pushBytes);
    super(new EnaPair({ ...options, ...budget, driver }), netmap);
  }

  /** The event of ENA_ADMIN_DEVICE_REQUEST_RESET; the driver's watchdog heeds it. */
  async resetByDevice(): Promise<void> {
    if (!this.pair.nic.requestReset()) throw new Error("the event queue is full");
    this.pair.pump();
    await this.pair.second();
  }

  async suspend(): Promise<void> {
    await this.pair.run(this.pair.driver.suspend());
  }

  queueCounts() {
    const { length } = this.pair.driver.adapter.queues;
    const count = (q: number, ring: string) => this.pair.counter(`queue${q}`, ring, "count");
    const all = Array.from({ length }, (_, q) => q);
    return { tx: all.map((q) => count(q, "tx_ring")), rx: all.map((q) => count(q, "rx_ring")) };
  }

  /** A device whose queues are gone takes no frame. */
  readonly droppedDown = 0;

  held() {
    return {
      mbufs: this.pair.outstanding,
      rxMbufs: this.pair.counter("rx_mbufs_in_use"),
      pushedBytes: this.pair.counter("pushed_bytes"),
      pushes: this.pair.driver.adapter.gate.pushes,
    };
  }
}

/** The backend's directory of the one vif there is. */
const BACKEND_STATE = "/local/domain/0/backend/vif/1/0/state";
const INITIALISING = "1";
const CLOSING = "5";

class XenUnderTest extends PairNic<XenPair> implements NicUnderTest {
  constructor({ netmap, pushBytes, ...options }: NicOptions) {
    const budget = pushBytes === undefined ? {} : { pushBudget: pushBytes };
    const driver = driverOptions(netmap, pushBytes);
    super(new XenPair({ ...options, ...budget, driver }), netmap);
  }

  /** The toolstack closes the backend, and offers it again; not more often than once a second. */
  async resetByDevice(): Promise<void> {
    await this.#writeState(CLOSING);
    await this.#writeState(INITIALISING);
    await this.pair.second();
  }

  async #writeState(state: string): Promise<void> {
    const { machine } = this.pair.end;
    machine.store.write(BACKEND_STATE, state);
    machine.settle();
    await this.pair.settle();
  }

  suspend(): Promise<void> {
    return this.pair.suspend();
  }

  queueCounts() {
    const all = this.pair.info.txqs.map((_, q) => q);
    const count = (q: number, side: string) => this.pair.counter(`queue${q}`, side, "count");
    return { tx: all.map((q) => count(q, "tx")), rx: all.map((q) => count(q, "rx")) };
  }

  get droppedDown(): number {
    return this.pair.counter("queue0", "rx", "dropped_down");
  }

  held() {
    const { grants } = this.pair.info;
    const granted = this.pair.plugged ? this.pair.end.grants.snapshot() : undefined;
    return {
      mbufs: this.pair.outstanding,
      rxMbufs: this.pair.counter("rx_mbufs_in_use"),
      pushedBytes: this.pair.counter("pushed_bytes"),
      pushes: this.pair.info.gate.pushes,
      grants: grants.liveCount,
      references: grants.capacity - grants.availableCount,
      quarantined: grants.quarantined,
      granted: (granted?.["granted"] ?? 0) as number,
      used: (granted?.["readers"] ?? 0) as number,
    };
  }
}

export const NICS: readonly { kind: "ena" | "xen"; make(options?: NicOptions): NicUnderTest }[] = [
  { kind: "ena", make: (options = {}) => new EnaUnderTest(options) },
  { kind: "xen", make: (options = {}) => new XenUnderTest(options) },
];
