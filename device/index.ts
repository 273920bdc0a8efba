/**
 * The public interface of the device. Only `openDevice` assembles a device.
 *
 *   await using device = await openDevice({ listen: { port: 0 } });
 *   device.on("joined", ({ name }) => console.log(`${name} joined ${device.url}`));
 */
import { EventEmitter } from "node:events";
import { systemClock } from "../shared/clock.ts";
import { type Logger, silentLogger } from "../shared/log.ts";
import type { DeviceStatus } from "../shared/status/device-status.ts";
import { bracketed } from "../shared/transport/address.ts";
import type { DeadAfter } from "../shared/wire/dead-after.ts";
import type { LinkTap } from "../shared/wire/link.ts";
import type { Client } from "./access/token.ts";
import type { AdmissionPolicy } from "./admission.ts";
import type { CaptureHub } from "./capture/hub.ts";
import type { EnaOptions } from "./ena/index.ts";
import type { TlsTexts } from "./http/handshakes.ts";
import type { MoveRefusal } from "./migrate-page.ts";
import type { NicEvent, NicFault, NicLevers } from "./nic.ts";
import { parseUplink, type Uplink } from "./ports/uplinks.ts";
import { DeviceServer } from "./server.ts";
import { type StormLimits, stormLimits } from "./switch/storm.ts";
import { Switch } from "./switch/switch.ts";
import type { XenOptions } from "./xen/options.ts";

export type { DeadAfter } from "../shared/wire/dead-after.ts";
export type { Client } from "./access/token.ts";
export { type Admission, type AdmissionPolicy, type JoinRequest, Refusal } from "./admission.ts";
export type { CaptureRequest } from "./capture/capture.ts";
export type { EnaOptions } from "./ena/options.ts";
export type { TlsTexts } from "./http/handshakes.ts";
export type { NicEvent, NicFault, NicLevers } from "./nic.ts";
export type { StormKind, StormLimits } from "./switch/storm.ts";
export type { XenOptions } from "./xen/options.ts";

/** One Ethernet segment: a switch, with the uplinks that join it to other networks. */
export interface SegmentOptions {
  /** Default "lan0". */
  readonly name?: string;
  /** Devices with the same id state that uplinks join them to one segment. Default: random. */
  readonly id?: string | undefined;
  /** Policy for a frame whose receiver has no room. Default "drop". */
  readonly whenFull?: "drop" | "hold";
  /**
   * Frames a second that a NIC may flood, for each kind: broadcast, multicast and unknown (unicast to
   * an address that the switch has not learned). "off" means no limit. Uplinks may flood ten times
   * as many. Default 1000 of each kind.
   */
  readonly storm?: Partial<StormLimits> | undefined;
  /** Uplinks, each as SCHEME:NAME. Today only `tap:NAME`, an interface of the kernel. */
  readonly uplinks?: readonly string[];
}

/** Options of `openDevice`. Every option may be left out. */
export interface DeviceOptions {
  /** Address for frontends. Default 127.0.0.1:7700. With port 0 the system chooses the port. */
  readonly listen?: { readonly host?: string; readonly port?: number };
  /** The segment. A device has one today. */
  readonly segments?: SegmentOptions | readonly SegmentOptions[];
  /** PEM texts with which the port speaks TLS. With `ca` clients may show certificates. */
  readonly tls?: TlsTexts | undefined;
  /** The clients that may ask this device, as in a file of tokens. Default: everybody may. */
  readonly clients?: readonly Client[] | undefined;
  /** Decides which frontends may join. Default: every frontend. */
  readonly admission?: AdmissionPolicy;
  /** Called before the port opens. A capture that begins here sees the first batch of each NIC. */
  readonly capture?: (start: StartCapture) => void;
  /** The log. Default: none. */
  readonly log?: Logger;
  /** Program and version of this device for peers and captures. Default "ringwire". */
  readonly agent?: string;
  /** Largest number of queue pairs of each NIC. Default 8. */
  readonly maxQueues?: number;
  /** Largest MTU of a NIC, in bytes. Default 9216. */
  readonly maxMtu?: number;
  /**
   * Bytes that the device holds for all NICs together: windows, pushes and unfinished messages. A NIC
   * that needs more is refused (close code 4007). Default: a quarter of the machine's memory.
   */
  readonly memoryBytes?: number | undefined;
  /** Compare both copies of shared memory once a second. If they differ, the NIC connects again. */
  readonly checkWindows?: boolean;
  /**
   * Seconds of silence after which a frontend counts as dead, 2 to 3600. "off": never, for debugging
   * with breakpoints. A frontend that asks for more gets up to 600 s. Default 4.
   */
  readonly deadAfter?: DeadAfter | undefined;
  /** Host names under which pages are served, in addition to the machine's own names. */
  readonly allowHosts?: readonly string[];
  /** Options of ENA functions that differ from the defaults. */
  readonly ena?: EnaOptions;
  /** Options of Xen vifs that differ from the defaults. */
  readonly xen?: XenOptions;
  /** Called for each NIC that joins. The tap that it returns sees every batch of that NIC. */
  readonly tap?: (nic: string) => LinkTap;
}

/** What `renew` replaces. */
export type Renewal = Pick<DeviceOptions, "clients" | "tls">;

/** Begins a capture. Throws CaptureRefusal if a source does not exist or too many captures run. */
export type StartCapture = CaptureHub["start"];

/** The events of a device, by name, with their arguments. */
export interface DeviceEvents {
  /** A NIC was welcomed. */
  joined: [nic: NicEvent];
  /** A NIC's connection ended. The event carries the reason. */
  left: [nic: NicEvent];
  /** A NIC's driver broke a rule. Emitted at most a few times a second for one code. */
  fault: [fault: NicFault];
  /** The far end of an uplink is gone for good. The segment continues without this uplink. */
  "uplink-lost": [uplink: { readonly name: string; readonly reason: string }];
}

/** A running device. `openDevice` creates it. */
export class Device extends EventEmitter<DeviceEvents> implements AsyncDisposable {
  readonly #server: DeviceServer;
  readonly #uplinks: Uplink[] = [];
  #closed: Promise<void> | undefined;

  private constructor(options: DeviceOptions, segment: Switch) {
    super();
    this.#server = new DeviceServer(options, segment, this);
  }

  /** Implements `openDevice`. */
  static async open(options: DeviceOptions): Promise<Device> {
    const { segments = {}, log = silentLogger } = options;
    const all = [segments].flat() as SegmentOptions[];
    const [first] = all;
    if (first === undefined || all.length > 1) {
      throw new TypeError(`segments: a device has one segment, not ${all.length}`);
    }
    const { name = "lan0", id, whenFull = "drop", uplinks = [] } = first;
    const storm = stormLimits(first.storm);
    const parsed = uplinks.map((text) => {
      const uplink = parseUplink(text);
      if (typeof uplink === "string") throw new TypeError(`segment ${name}: uplinks ${uplink}`);
      return uplink;
    });
    const now = () => performance.now();
    const segment = new Switch({
      ...{ name, now, whenFull, storm, later: systemClock.setImmediate },
      ...(id === undefined ? {} : { id }),
    });
    const device = new Device(options, segment);
    try {
      options.capture?.(device.capture);
      for (const uplink of parsed) {
        // The uplink has logged its failure.
        const onGone = ({ message: reason }: Error): void => {
          device.emit("uplink-lost", { name: uplink.name, reason });
        };
        const opened = uplink.scheme.open({ name: uplink.name, log, segment, onGone });
        device.#uplinks.push(await opened);
      }
      await device.#server.listen();
    } catch (error) {
      await device.close();
      throw error;
    }
    return device;
  }

  /** TCP port for frontends. */
  get port(): number {
    return this.#server.address?.port ?? 0;
  }

  /** URL of this device for a frontend's `connect`. */
  get url(): string {
    const scheme = this.#server.isTls ? "wss" : "ws";
    return `${scheme}://${bracketed(this.#server.host)}:${this.port}`;
  }

  /** Returns the content of the page /status: the segment, the NICs, their counters. */
  status(): DeviceStatus {
    return this.#server.snapshot();
  }

  /** Begins a capture; see StartCapture. */
  readonly capture: StartCapture = (output, request) =>
    this.#server.captures.start(output, request);

  /**
   * Asks a NIC to move to the device at `url`. Resolves to undefined when the NIC has left, or to
   * the reason why it stays.
   */
  migrate(nic: string, url: string): Promise<MoveRefusal | undefined> {
    return this.#server.migrate(nic, url);
  }

  /** Returns levers that break or reset a NIC, to test its driver; undefined if it has none. */
  levers(nic: string): NicLevers | undefined {
    return this.#server.levers(nic);
  }

  /**
   * Replaces the list of clients, or the certificates. Clients that are gone or changed lose their
   * connections. Connections that exist keep their TLS. Throws the error of OpenSSL.
   */
  renew(renewal: Renewal): void {
    this.#server.renew(renewal);
  }

  /** Informs every frontend, ends captures, and closes the port and the uplinks. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#server.close();
    for (const uplink of this.#uplinks) await uplink.close();
  }

  /** As `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Opens a device. It consists of a switch, an ENA function or a Xen vif for each frontend that
 * connects, and the pages (/status, /metrics, /capture, ...) on the same port.
 *
 * Rejects with a TypeError if options contradict each other, with the system's error (EADDRINUSE,
 * ...) if the port can't be opened, and with TapError if an uplink can't be opened.
 */
export const openDevice = (options: DeviceOptions = {}): Promise<Device> => Device.open(options);
