/**
 * A NIC whose interface netmap ports can be opened on: one link, one driver.
 *
 *   const nic = await openNic({ connect: "ws://127.0.0.1:7700", ifname: "ena0" });
 *   const port = await nmOpen("netmap:ena0");
 *   ...
 *   await port.close();
 *   await nic.close();
 */

import { type Logger, silentLogger } from "../shared/log.ts";
import type { Tap } from "../shared/tap/tap.ts";
import type { Personality } from "../shared/wire/personality.ts";
import type { Driver } from "./driver.ts";
import { createDriver, personalityOf } from "./drivers.ts";
import { bringUp } from "./host/bring-up.ts";
import type { TapHost } from "./host/tap-host.ts";
import type { Ifnet } from "./net/ifnet.ts";
import { type Netmap, netmap as theNetmap } from "./netmap/netmap.ts";
import { Session, type SessionState } from "./session.ts";

export interface NicOptions {
  /** The device: ws, wss, http, https or HOST:PORT. */
  readonly connect: string;
  /** The interface's name in this process: what follows "netmap:". */
  readonly ifname: string;
  /** "ena" or "xen"; by the prefix of `ifname` (ena0, xn0) when not given, else ena. */
  readonly personality?: Personality;
  /**
   * What the device calls it; two NICs of a device have two names. When not given it is `ifname`, or
   * the next free number of it: a second ena0 is ena1 on the device. `session.agreed.name` tells.
   */
  readonly name?: string;
  /** The name is wanted although a NIC that is alive has it: that one loses it. */
  readonly takeOver?: boolean;
  /** A device that is not there yet is waited for, without limit. Else opening rejects. */
  readonly waitForDevice?: boolean;
  /** Made from name and segment when not given. */
  readonly mac?: string;
  /** Queue pairs, so ring pairs; 1 when not given. */
  readonly queues?: number;
  /** Bytes of a packet without its Ethernet header; 1500. */
  readonly mtu?: number;
  /** Slots of each ENA ring, a power of two; 4096 to receive and 1024 to transmit. Xen's have 256. */
  readonly ringSize?: number;
  readonly zeroMask?: boolean;
  /** The kernel on top, with what no netmap port has taken. It must be open and is not closed here. */
  readonly tap?: Tap;
  /** The module that ports are opened in; the process's own when not given. */
  readonly netmap?: Netmap;
  readonly agent?: string;
  readonly log?: Logger;
  /** Told when the link is lost, back, or given up for good ("closed"). */
  readonly onState?: (state: SessionState, reason: string) => void;
}

/** Connects, attaches the driver, brings the interface up. Rejects with a sentence for a person. */
export async function openNic(options: NicOptions): Promise<Nic> {
  const nic = new Nic(options);
  try {
    await nic.start();
  } catch (error) {
    await nic.close();
    throw error;
  }
  return nic;
}

export class Nic {
  readonly #options: NicOptions;
  readonly #netmap: Netmap;
  readonly #session: Session;
  #host: TapHost | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: NicOptions) {
    this.#options = options;
    this.#netmap = options.netmap ?? theNetmap;
    const { connect, ifname, name = ifname, agent = "ringwire", log = silentLogger } = options;
    if (options.log !== undefined) this.#netmap.log = options.log;
    const { mac, queues, mtu, zeroMask, onState, takeOver, waitForDevice } = options;
    const { personality = personalityOf(ifname) ?? "ena", ringSize } = options;
    this.#session = new Session({
      connect,
      name,
      ifname,
      numbered: options.name === undefined,
      personality,
      driver: (context) =>
        createDriver(personality, context, {
          netmap: this.#netmap,
          // netmap shows frames as they came.
          lro: false,
          ...(ringSize === undefined ? {} : { rxRingSize: ringSize, txRingSize: ringSize }),
        }),
      agent,
      log,
      ...(mac === undefined ? {} : { mac }),
      ...(queues === undefined ? {} : { queues }),
      ...(mtu === undefined ? {} : { mtu }),
      ...(zeroMask === undefined ? {} : { zeroMask }),
      ...(onState === undefined ? {} : { onState }),
      ...(takeOver === undefined ? {} : { takeOver }),
      ...(waitForDevice === undefined ? {} : { waitForDevice }),
    });
  }

  /** Once. */
  async start(): Promise<void> {
    const { tap, onState, log = silentLogger } = this.#options;
    await this.#session.start();
    // A driver without native support gets the emulated adapter.
    if (!this.#netmap.hasInterface(this.ifnet.name)) this.#netmap.addInterface(this.ifnet);
    await bringUp(this.driver, tap, {
      log,
      joined: (host) => {
        this.#host = host;
      },
      gone: (reason) => onState?.("closed", reason),
    });
  }

  get driver(): Driver {
    return this.#session.driver;
  }
  get ifnet(): Ifnet {
    return this.driver.ifnet;
  }
  get session(): Session {
    return this.#session;
  }
  /** Counters of the way to the kernel. */
  get host(): TapHost | undefined {
    return this.#host;
  }

  /** Resolves once the device has all that was posted before, receive buffers for one. */
  async settled(): Promise<void> {
    await this.driver.settled();
  }

  /** Ports must be closed before. */
  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    this.#host?.leave();
    const ifnet = this.#session.isStarted ? this.ifnet : undefined;
    await this.#session.close();
    if (ifnet !== undefined) this.#netmap.removeInterface(ifnet);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
