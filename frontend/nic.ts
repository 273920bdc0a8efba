/**
 * One NIC: its link, its driver, and the users of its interface. Only this file assembles them.
 *
 *   program ── send, for await, readable, writable ──┐
 *   kernel ─── TAP (tap) ────────────────────────────┤ Ifnet ── driver ── Session ══ device
 *   netmap ports (netmap) ───────────────────────────┘
 *
 * Either the program or the kernel uses the interface. Netmap ports take rings away from that user.
 */
import { EventEmitter, once } from "node:events";
import { ReadableStream, WritableStream } from "node:stream/web";
import type { CaptureOutput } from "../shared/capture/output.ts";
import type { Recorder } from "../shared/capture/recorder.ts";
import { type Logger, silentLogger } from "../shared/log.ts";
import { formatMac, parseUnicastMac } from "../shared/net/ethernet.ts";
import { reactor } from "../shared/reactor/index.ts";
import type {
  FrontendStatus,
  NicCounters,
  SessionState,
} from "../shared/status/frontend-status.ts";
import type { KernelTap } from "../shared/tap/kernel-tap.ts";
import type { CredentialSource } from "../shared/transport/credentials.ts";
import type { DeadAfter } from "../shared/wire/dead-after.ts";
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

/** Options of `openNic`. Only `connect` is needed. */
export interface NicOptions {
  /** Address of the device: a ws, wss, http or https URL, or HOST:PORT. */
  readonly connect: string;
  /** What the NIC shows to the device: a token, a certificate. A function is called at each try. */
  readonly credentials?: CredentialSource | undefined;
  /** The driver. Default: by the prefix of `ifname` (ena0, xn0), else ena. */
  readonly driver?: Personality | undefined;
  /**
   * Name of the NIC on the device. Two NICs of a device have different names. Default: `ifname`, or
   * the same prefix with the next free number. For example, a second ena0 becomes ena1 on the
   * device. `status().name` is the name in use.
   */
  readonly name?: string | undefined;
  /** Name of the interface in this process, as in "netmap:ena0". Default: the NIC's name. */
  readonly ifname?: string | undefined;
  /** Takes the name even from a NIC that is alive. That NIC then waits until the name is free. */
  readonly takeOver?: boolean | undefined;
  /** Waits without limit for a device that is not running yet. Otherwise opening rejects. */
  readonly waitForDevice?: boolean | undefined;
  /** A unicast address, such as "02:00:00:00:00:01". Default: made from name and segment. */
  readonly mac?: string | undefined;
  /** Number of queue pairs (ring pairs) wanted. Default: 1. The device may offer fewer. */
  readonly queues?: number | undefined;
  /** Highest number of bytes of a packet without its Ethernet header. Default: 1500. */
  readonly mtu?: number | undefined;
  /** ENA: slots of each receive ring, a power of two. Default: 4096. Xen rings have 256 slots. */
  readonly rxRingSize?: number | undefined;
  /** ENA: slots of each transmit ring, a power of two. Default: 1024. */
  readonly txRingSize?: number | undefined;
  /** Merges received TCP segments. Default: true with a TAP and without netmap, else false. */
  readonly lro?: boolean | undefined;
  /** ENA: puts Tx descriptors into device memory (low-latency queues), if the device has it. */
  readonly llq?: boolean | undefined;
  /** Xen: false grants the device nothing but copies, in pages that contain nothing else. */
  readonly trusted?: boolean | undefined;
  /** Uses a WebSocket mask of zero, which does not protect proxies: for loopback and TLS only. */
  readonly zeroMask?: boolean | undefined;
  /**
   * Seconds of silence after which the device counts as dead, 2 to 3600, and this NIC for the device,
   * which grants up to 600 s. "off": never, for debugging with breakpoints. Default 4.
   */
  readonly deadAfter?: DeadAfter | undefined;
  /** Name of the TAP interface through which the kernel uses the NIC. Created if missing. */
  readonly tap?: string | undefined;
  /** True: creates `nic.netmap` to open ports in. Or a Netmap to join, shared by several NICs. */
  readonly netmap?: boolean | Netmap | undefined;
  /** Received frames that may wait for the program; more count as rxReaderFull. Default: 1024. */
  readonly readerFrames?: number | undefined;
  /** Program and version, which the device reports in its status. */
  readonly agent?: string | undefined;
  readonly log?: Logger | undefined;
  /** Called for every batch of the link. */
  readonly trace?: LinkTap | undefined;
}

/** The events of a NIC, by name, with their arguments. */
export interface NicEvents {
  /** Emitted when all local resources, such as the TAP, are ready, before the first connection. */
  connecting: [];
  /** Emitted when the interface's link goes up or down. */
  up: [];
  down: [];
  /** Emitted when the connection to the device is lost or back. The NIC reconnects by itself. */
  "link-gone": [reason: string];
  "link-back": [];
  /** Emitted when the device reports something that it refused or found wrong. */
  fault: [code: string, text: string];
  /** Emitted when the NIC has given up, or its TAP was deleted. Only `close` remains to call. */
  failed: [reason: string];
}

const READER_FRAMES = 1024;
/** Time (ms) for which `open` waits for the interface's link to come up. */
const LINK_UP_MS = 5000;

/**
 * Connects to a device, attaches the driver and brings the interface up. Resolves when the link is
 * up, or after 5 s with the link still down, or when the TAP is down. Rejects with a SessionError,
 * whose message is a sentence for the user, or with a TapError.
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

/**
 * A NIC of this process: its driver, its connection to the device, and the ways in and out of it.
 * `openNic` creates it.
 */
export class Nic extends EventEmitter<NicEvents> {
  readonly #options: NicOptions;
  readonly #driver: Personality;
  readonly #name: string;
  readonly #log: Logger;
  readonly #session: Session;
  #netmap: Netmap | undefined;
  #tap: KernelTap | undefined;
  #host: TapHost | undefined;
  #frames: Frames | undefined;
  #readable: ReadableStream<Uint8Array> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;
  readonly #captures: NicCapture[] = [];
  #isStarted = false;
  #closing: Promise<void> | undefined;

  /** Throws an Error if `connect` is not an address. Does not connect before `open`. */
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

  /** Opens the NIC; call once. After a SessionError or TapError the NIC is closed. */
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
        // Open the TAP before connecting: a NIC without its TAP must not take a working NIC's name.
        const { openTap } = await import("../shared/tap/tap.ts");
        this.#tap = await openTap({
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
      // The TAP may have opened after `close` began.
      await this.#tap?.close();
      throw error;
    }
  }

  /** Resolves when the link is up, or after LINK_UP_MS, or when the TAP is down. */
  async #bringUp(ifnet: Ifnet): Promise<void> {
    const tap = this.#tap;
    if (tap === undefined) {
      this.#tellLink(ifnet);
      await this.up();
    } else {
      const { TapHost } = await import("./host/tap-host.ts");
      await tap.start(ifnet.mac);
      this.#host = new TapHost(tap, ifnet, {
        log: this.#log,
        up: () => this.up(),
        down: () => this.down(),
        gone: (error) => this.#failed(error.message),
      });
      this.#tellLink(ifnet);
      // The driver follows the TAP: up now, or when `ip link set up` is called.
      await this.#host.settled();
      if (!tap.up) {
        this.#log.warn({}, `${tap.name} is down: "sudo ip link set ${tap.name} up"`);
        return;
      }
    }
    if (ifnet.linkState === "up") return;
    // The device reports the link's state in a separate event, soon after the queues are created.
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

  /** The interface, for programs that use mbufs. `send` and the readers below use it too. */
  get ifnet(): Ifnet {
    return this.#session.driver.ifnet;
  }

  /** The Netmap to open ports in. Throws when the NIC was opened without netmap. */
  get netmap(): Netmap {
    if (this.#netmap === undefined) throw new Error(`${this.#name} was opened without netmap`);
    return this.#netmap;
  }

  /**
   * Sends an Ethernet frame, without its FCS. Resolves when the driver has accepted the frame;
   * `frame` may change then. Await each call for back-pressure. Rejects with SessionError.
   */
  send(frame: Uint8Array): Promise<void> {
    return this.#framesEnd().send(frame);
  }

  /** Received frames, each a copy. From the first call on, frames are kept for the reader. */
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, undefined> {
    return this.#framesEnd();
  }

  /** The received frames as a stream. */
  get readable(): ReadableStream<Uint8Array> {
    this.#readable ??= ReadableStream.from(this.#framesEnd());
    return this.#readable;
  }

  get writable(): WritableStream<Uint8Array> {
    this.#writable ??= new WritableStream(this.#framesEnd().sink());
    return this.#writable;
  }

  #framesEnd(): Frames {
    if (this.#options.tap !== undefined) {
      throw new Error(`${this.#name}: the kernel has the frames of this NIC, through its TAP`);
    }
    this.#frames ??= new Frames(this.ifnet, this.#options.readerFrames ?? READER_FRAMES);
    return this.#frames;
  }

  /** Records the link's batches and the interface's frames. Works before the NIC is open, too. */
  capture(output: CaptureOutput): Recorder {
    const { agent: application } = this.#options;
    const facts = { name: this.#name, personality: this.#driver, application, log: this.#log };
    const capture = new NicCapture(this.#session, output, facts);
    this.#captures.push(capture);
    return capture.recorder;
  }

  /** Brings the interface up, as ifconfig does. */
  up(): Promise<void> {
    return this.#session.driver.up();
  }
  /** Takes the interface down: the driver stops its rings and frees its buffers. */
  down(): Promise<void> {
    this.#frames?.flush();
    return this.#session.driver.down();
  }

  /** Resolves once the device has received all that was posted before, for example Rx buffers. */
  settled(): Promise<void> {
    this.#frames?.flush();
    return this.#session.driver.settled();
  }

  /** Returns the state and the counters of the NIC. Throws before the NIC is open. */
  status(): FrontendStatus {
    const { agreed, reconnects, faults, state } = this.#session;
    const { mac, mtu, linkState } = this.ifnet;
    return {
      name: agreed.name,
      driver: this.#driver,
      state,
      mac: formatMac(mac),
      mtu,
      waits: reactor() === undefined ? "libuv" : "reactor",
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

  /** Returns the counters of the interface, its driver and its TAP. */
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

  /** Detaches from the device in good order. Close the netmap ports before. */
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

  /** As `close`. */
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
