/**
 * One NIC: its link, its driver, and what sits on top of its interface. The only assembly of these.
 *
 *   program ── send, for await, readable, writable ──┐
 *   kernel ─── TAP (tap) ────────────────────────────┤ Ifnet ── driver ── Session ══ device
 *   netmap ports (netmap) ───────────────────────────┘
 *
 * One of the program and the kernel has the interface. Netmap ports take rings away from either.
 */
import { EventEmitter, once } from "node:events";
import { ReadableStream, WritableStream } from "node:stream/web";
import type { CaptureOutput } from "../shared/capture/output.ts";
import type { Recorder } from "../shared/capture/recorder.ts";
import { type Logger, silentLogger } from "../shared/log.ts";
import { formatMac, parseUnicastMac } from "../shared/net/ethernet.ts";
import type {
  FrontendStatus,
  NicCounters,
  SessionState,
} from "../shared/status/frontend-status.ts";
import type { Tap } from "../shared/tap/tap.ts";
import type { LinkTap } from "../shared/wire/link.ts";
import { type Personality, UNIT_PREFIX } from "../shared/wire/personality.ts";
import { NicCapture } from "./capture/nic-capture.ts";
import { createDriver, personalityOf } from "./drivers.ts";
import { Frames } from "./frames.ts";
import type { TapHost } from "./host/tap-host.ts";
import type { Ifnet } from "./net/ifnet.ts";
import type { Netmap } from "./netmap/netmap.ts";
import { Session } from "./session.ts";
import { SessionError } from "./session-error.ts";

export interface NicOptions {
  /** The device: ws, wss, http, https or HOST:PORT. */
  readonly connect: string;
  /** By the prefix of `ifname` (ena0, xn0) when not given, else ena. */
  readonly driver?: Personality | undefined;
  /**
   * The NIC's name on the device; two NICs of a device have two names. When not given it is `ifname`,
   * or the next free number of it: a second ena0 is ena1 on the device. `status().name` tells.
   */
  readonly name?: string | undefined;
  /** The interface's name in this process, as in "netmap:ena0"; the NIC's name when not given. */
  readonly ifname?: string | undefined;
  /** Takes the name even from a NIC that is alive. That NIC then waits until the name is free. */
  readonly takeOver?: boolean | undefined;
  /** Waits without limit for a device that is not there yet. Else opening rejects. */
  readonly waitForDevice?: boolean | undefined;
  /** A unicast address, as "02:00:00:00:00:01"; made from name and segment when not given. */
  readonly mac?: string | undefined;
  /** Queue pairs wanted, so ring pairs; 1. The device may offer fewer. */
  readonly queues?: number | undefined;
  /** Bytes of a packet without its Ethernet header; 1500. */
  readonly mtu?: number | undefined;
  /** ENA: slots of each receive ring, a power of two; 4096. Xen's have 256. */
  readonly rxRingSize?: number | undefined;
  /** ENA: slots of each transmit ring, a power of two; 1024. */
  readonly txRingSize?: number | undefined;
  /** Merges received TCP segments. On under a TAP, else off: a program and netmap get frames as they came. */
  readonly lro?: boolean | undefined;
  /** ENA: transmit descriptors go to device memory (low-latency queues), where the device has some. */
  readonly llq?: boolean | undefined;
  /** Xen: false grants the device nothing but copies, in pages that hold nothing else. */
  readonly trusted?: boolean | undefined;
  /** Does not mask what is sent from proxies on the way: for loopback and TLS only. */
  readonly zeroMask?: boolean | undefined;
  /** Name of a TAP interface, through which the kernel uses the NIC. Made when there is none. */
  readonly tap?: string | undefined;
  /** True: ports can be opened in `nic.netmap`. Or the Netmap to join, which several NICs may share. */
  readonly netmap?: boolean | Netmap | undefined;
  /** Received frames that wait for the program; more are dropped as rxReaderFull. 1024. */
  readonly readerFrames?: number | undefined;
  /** Program and version, for the device's status. */
  readonly agent?: string | undefined;
  readonly log?: Logger | undefined;
  /** Sees every batch of the link. */
  readonly trace?: LinkTap | undefined;
}

export interface NicEvents {
  /** All that this machine gives is there; the first connection follows. */
  connecting: [];
  /** The interface's link. */
  up: [];
  down: [];
  /** The connection to the device. It comes back by itself. */
  "link-gone": [reason: string];
  "link-back": [];
  /** The device reports something that it refused or found wrong. */
  fault: [code: string, text: string];
  /** The NIC has given up, or its TAP was deleted. Only `close` is left to do. */
  failed: [reason: string];
}

const READER_FRAMES = 1024;
/** A link that does not come up within this is left as it is. */
const LINK_UP_MS = 5000;

/**
 * Connects to a device, attaches the driver and brings the interface up. Resolves when the link is
 * up, or after a while with the link as it is, or with the TAP down. Rejects with a SessionError,
 * whose message is a sentence for a person, or with a TapError.
 *
 * @example A NIC whose frames this program reads and sends.
 *   await using nic = await openNic({ connect: "127.0.0.1:7700", driver: "xen", mtu: 9000 });
 *   for await (const frame of nic) await nic.send(reply(frame));
 *
 * @example The kernel's interface rw0, on a device that may start later.
 *   const nic = await openNic({ connect: "ws://lab:7700", tap: "rw0", waitForDevice: true });
 *   nic.once("failed", (reason) => console.error(reason));
 */
export async function openNic(options: NicOptions): Promise<Nic> {
  const nic = new Nic(options);
  await nic.open();
  return nic;
}

export class Nic extends EventEmitter<NicEvents> {
  readonly #options: NicOptions;
  readonly #driver: Personality;
  readonly #name: string;
  readonly #log: Logger;
  readonly #session: Session;
  #netmap: Netmap | undefined;
  #tap: Tap | undefined;
  #host: TapHost | undefined;
  #frames: Frames | undefined;
  #readable: ReadableStream<Uint8Array> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;
  readonly #captures: NicCapture[] = [];
  #isStarted = false;
  #closing: Promise<void> | undefined;

  /** Throws an Error for a `connect` that is no address. Nothing happens before `open`. */
  constructor(options: NicOptions) {
    super();
    const { ifname, agent = "ringwire", log = silentLogger, netmap } = options;
    const driver = options.driver ?? personalityOf(ifname ?? "") ?? "ena";
    const { lro = options.tap !== undefined && !netmap } = options;
    this.#options = options;
    this.#driver = driver;
    this.#log = log;
    this.#name = options.name ?? ifname ?? `${UNIT_PREFIX[driver]}0`;
    this.#session = new Session({
      ...options,
      name: this.#name,
      numbered: options.name === undefined,
      personality: driver,
      driver: (context) => createDriver(driver, context, { ...options, netmap: this.#netmap, lro }),
      agent,
      log,
      tap: options.trace,
      onState: (state, reason) => this.#onState(state, reason),
      onBatch: () => this.#netmap?.service(),
      onFault: (code, text) => this.emit("fault", code, text),
    });
  }

  /** Once. Rejects with SessionError or TapError; the NIC is closed then. */
  async open(): Promise<void> {
    try {
      const { netmap, tap, mac, mtu } = this.#options;
      const log = this.#log;
      if (netmap === true) {
        const { Netmap } = await import("./netmap/netmap.ts");
        this.#netmap = new Netmap({ log });
      } else if (netmap !== false) {
        this.#netmap = netmap;
      }
      if (tap !== undefined) {
        // Before connecting: a NIC without its TAP must not take the name from one that works.
        const { Tap } = await import("../shared/tap/tap.ts");
        this.#tap = await Tap.open({
          name: tap,
          // Host rings accept finished frames only, as netmap's do.
          offloads: this.#netmap === undefined,
          bringUp: false,
          log,
          mac: mac === undefined ? undefined : parseUnicastMac(mac),
          mtu,
        });
      }
      if (this.#closing !== undefined)
        throw new SessionError("CLOSED", "closed before it was open");
      this.emit("connecting");
      await this.#session.start();
      this.#isStarted = true;
      const { ifnet } = this;
      for (const capture of this.#captures) capture.see(ifnet);
      // A driver without native support gets the emulated adapter.
      if (this.#netmap?.hasInterface(ifnet.name) === false) this.#netmap.addInterface(ifnet);
      await this.#bringUp(ifnet);
    } catch (error) {
      await this.close();
      // It may have come after that began.
      await this.#tap?.close();
      throw error;
    }
  }

  /** Resolves with the link up, or as it is after a while, or the TAP being down. */
  async #bringUp(ifnet: Ifnet): Promise<void> {
    const tap = this.#tap;
    if (tap === undefined) {
      this.#tellLink(ifnet);
      await this.up();
    } else {
      const { joinTap } = await import("./host/tap-host.ts");
      await tap.start(ifnet.mac);
      this.#host = joinTap(tap, ifnet, {
        log: this.#log,
        up: () => this.up(),
        down: () => this.down(),
        gone: (error) => this.#failed(error.message),
      });
      this.#tellLink(ifnet);
      // The driver follows the interface: up now, or when `ip link set up` says so.
      await this.#host.settled();
      if (!tap.up) {
        this.#log.warn({}, `${tap.name} is down: "sudo ip link set ${tap.name} up"`);
        return;
      }
    }
    if (ifnet.linkState === "up") return;
    // The device tells the link's state in an event of its own, soon after the queues are there.
    await once(this, "up", { signal: AbortSignal.timeout(LINK_UP_MS) }).catch(() => {});
  }

  /** Emits `up` and `down`, after the TAP has followed the link. */
  #tellLink(ifnet: Ifnet): void {
    const { onLinkState } = ifnet;
    ifnet.onLinkState = (up) => {
      onLinkState(up);
      this.emit(up ? "up" : "down");
    };
  }

  /** The interface, for programs that deal in mbufs. The frames below stand on it too. */
  get ifnet(): Ifnet {
    return this.#session.driver.ifnet;
  }

  /** Where ports are opened. Throws when the NIC was opened without netmap. */
  get netmap(): Netmap {
    if (this.#netmap === undefined) throw new Error(`${this.#name} was opened without netmap`);
    return this.#netmap;
  }

  /**
   * Sends an Ethernet frame, without its FCS. Resolves when the driver has it, so that awaiting it
   * is the back-pressure; `frame` may change then. Rejects with SessionError.
   */
  send(frame: Uint8Array): Promise<void> {
    return this.#framesEnd().send(frame);
  }

  /** Received frames, each a copy. From the first call on they are kept for the reader. */
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, undefined> {
    return this.#framesEnd();
  }

  /** The same frames as a stream. */
  get readable(): ReadableStream<Uint8Array> {
    this.#readable ??= ReadableStream.from(this.#framesEnd());
    return this.#readable;
  }

  get writable(): WritableStream<Uint8Array> {
    this.#writable ??= new WritableStream({ write: (frame) => this.send(frame) });
    return this.#writable;
  }

  #framesEnd(): Frames {
    if (this.#options.tap !== undefined) {
      throw new Error(`${this.#name}: the kernel has the frames of this NIC, through its TAP`);
    }
    this.#frames ??= new Frames(this.ifnet, this.#options.readerFrames ?? READER_FRAMES);
    return this.#frames;
  }

  /** Records the link's batches and the interface's frames; also before the NIC is open. */
  capture(output: CaptureOutput): Recorder {
    const { agent: application } = this.#options;
    const facts = { name: this.#name, personality: this.#driver, application, log: this.#log };
    const capture = new NicCapture(this.#session, output, facts);
    this.#captures.push(capture);
    return capture.recorder;
  }

  /** ifconfig up and down. */
  up(): Promise<void> {
    return this.#session.driver.up();
  }
  down(): Promise<void> {
    return this.#session.driver.down();
  }

  /** Resolves once the device has all that was posted before, receive buffers for one. */
  settled(): Promise<void> {
    return this.#session.driver.settled();
  }

  /** Throws before the NIC is open. */
  status(): FrontendStatus {
    const { agreed, reconnects, faults, state } = this.#session;
    const { mac, mtu, linkState } = this.ifnet;
    return {
      name: agreed.name,
      driver: this.#driver,
      state,
      mac: formatMac(mac),
      mtu,
      queues: Math.min(this.#options.queues ?? 1, agreed.queues),
      segment: agreed.segment,
      epoch: agreed.epoch,
      deviceMemory: agreed.deviceMemory,
      link: linkState,
      reconnects,
      faults: Object.fromEntries(faults),
      counters: this.counters(),
    };
  }

  counters(): NicCounters {
    const { driver } = this.#session;
    const tap = this.#tap;
    return {
      ifnet: { ...driver.ifnet.counters },
      driver: driver.counters(),
      ...(this.#frames === undefined ? {} : { frames: { ...this.#frames.counters } }),
      ...(tap === undefined ? {} : { tap: { ...tap.counters, host: { ...this.#host?.counters } } }),
    };
  }

  /** Leaves the device in good order. Netmap ports must be closed before. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#frames?.end();
    this.#host?.leave();
    const ifnet = this.#session.isStarted ? this.ifnet : undefined;
    await this.#session.close();
    if (ifnet !== undefined) this.#netmap?.removeInterface(ifnet);
    await this.#tap?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #onState(state: SessionState, reason: string): void {
    if (!this.#isStarted) return;
    if (state === "waiting") this.emit("link-gone", reason);
    else if (state === "attached") this.emit("link-back");
    else if (state === "closed") this.#failed(reason);
  }

  #failed(reason: string): void {
    if (this.#closing !== undefined) return;
    this.#frames?.end(new SessionError("CLOSED", reason));
    this.emit("failed", reason);
  }
}
