/**
 * nmOpen, and the port that it opens.
 *
 *   const port = await nmOpen("netmap:ena0", { netmap: nic.netmap });
 *   while ((await port.poll(Poll.IN, 1000)) !== 0) { ... port.rxRing(0) ... }
 *   await port.close();
 *
 * The thread that opens a port is the data-path thread: link, driver and every sync run in it.
 * There `txsync`, `rxsync` and `look` act at once and `poll` waits with a promise. An application
 * that wants a thread of its own takes `port.share()` there and gives it to `nmAttach`; its port
 * can block.
 */
import { setImmediate } from "node:timers/promises";
import { Errno } from "../bus/errno.ts";
import type { NetmapAdapter, NetmapCounters } from "./adapter.ts";
import { NetmapError } from "./errors.ts";
import { Txrx } from "./flags.ts";
import type { Netmap, RequestOptions } from "./netmap.ts";
import { netmapPoll } from "./poll.ts";
import { type PortPlace, PortRings } from "./port.ts";
import { parsePortName } from "./port-name.ts";
import type { Priv } from "./register.ts";
import { endOf, type PortHandle, type SharedPort, WorkerPort } from "./shared-port.ts";
import { syncRings } from "./sync.ts";

export interface OpenOptions extends RequestOptions {
  /** Where the port's interface is: `nic.netmap`, or the Netmap that several NICs share. */
  readonly netmap: Netmap;
}

/** Looks that may succeed in a row before the event loop has its turn. */
const LOOKS_PER_TURN = 16;

/** Opens a port. Rejects with a NetmapError: its code is netmap's errno, its message a sentence. */
export async function nmOpen(name: string, options: OpenOptions): Promise<NmPort> {
  const { netmap, ...request } = options;
  const priv = await netmap.open(parsePortName(name), request);
  if (priv.na === undefined) throw new Error(`${name}: opened without an adapter`);
  return new NmPort(name, priv, priv.na, netmap);
}

/** A port that another thread opened and shared. */
export function nmAttach(handle: PortHandle): WorkerPort {
  return new WorkerPort(handle);
}

/** The adapter behind a port, which is no part of the face: tests look at its rings. */
export let adapterOf: (port: NmPort) => NetmapAdapter;

/**
 * An open port. The application owns the slots of a ring from head up to tail, and their buffers;
 * `advance` gives them to the driver. Everything else is written inside a sync only.
 *
 * `poll` reports Poll.ERR while the device of the port is away or being reset, and when the port is
 * closed. `txsync` and `rxsync` throw NetmapError (ENXIO) on a closed port.
 */
export class NmPort extends PortRings {
  static {
    adapterOf = (port) => port.#na;
  }

  /** Extra buffers that were to be had, of those asked for. */
  readonly extraBufs: number;
  readonly #na: NetmapAdapter;
  readonly #priv: Priv;
  readonly #netmap: Netmap;
  #shared: SharedPort | undefined = undefined;
  #closing: Promise<void> | undefined = undefined;
  #looks = 0;

  constructor(name: string, priv: Priv, na: NetmapAdapter, netmap: Netmap) {
    super(placeOf(name, priv, na));
    this.#na = na;
    this.extraBufs = priv.extraBufs;
    this.#priv = priv;
    this.#netmap = netmap;
  }

  /** The address of the interface behind the port; undefined where there is none. */
  get mac(): Uint8Array | undefined {
    return this.#na.ifnet?.mac;
  }

  /** The port's drops and its application's errors, by reason. */
  get counters(): Readonly<NetmapCounters> {
    return this.#na.counters;
  }

  /** NIOCTXSYNC: fills what can be sent, takes back what was. False: the port is stopped. */
  txsync(): boolean {
    return this.#sync(Txrx.TX);
  }
  /** NIOCRXSYNC */
  rxsync(): boolean {
    return this.#sync(Txrx.RX);
  }

  #sync(t: Txrx): boolean {
    const { na, ranges } = this.#priv;
    if (na === undefined || !this.#priv.isRegistered) {
      throw new NetmapError(Errno.ENXIO, `${this.name} is closed`);
    }
    return syncRings(na.krings(t), ranges.first[t]!, ranges.last[t]!, ranges.syncFlags);
  }

  /** poll(2) with no time to wait: syncs as poll does, returns the events that hold now. */
  look(events: number): number {
    return netmapPoll(this.#priv, events);
  }

  /**
   * poll(2): resolves to the events (Poll bits) of `events` that hold, with Poll.ERR when the port
   * is in error or closed, or to 0 after `timeoutMs` (-1: waits for ever).
   */
  async poll(events: number, timeoutMs: number): Promise<number> {
    const end = endOf(timeoutMs);
    for (;;) {
      const now = netmapPoll(this.#priv, events);
      const left = end - performance.now();
      if (now !== 0 || left <= 0) {
        // A loop of looks that always succeed would keep the link from being read.
        if (++this.#looks >= LOOKS_PER_TURN || now === 0) {
          this.#looks = 0;
          await setImmediate();
        }
        return now;
      }
      this.#looks = 0;
      await this.#sleep(left);
    }
  }

  #sleep(ms: number): Promise<void> {
    const [rx, tx] = this.#priv.si;
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined;
      const wake = (): void => {
        clearTimeout(timer);
        rx?.sleepers.delete(wake);
        tx?.sleepers.delete(wake);
        resolve();
      };
      rx?.sleepers.add(wake);
      tx?.sleepers.add(wake);
      if (ms !== Number.POSITIVE_INFINITY) timer = setTimeout(wake, ms);
    });
  }

  /**
   * Gives the rings to an application in another thread. From here on they are that thread's: this
   * object may only close the port.
   */
  share(): PortHandle {
    if (!this.#priv.isRegistered) throw new NetmapError(Errno.ENXIO, `${this.name} is closed`);
    this.#shared ??= this.#netmap.shared.share(this.#priv, this.place);
    return this.#shared.handle;
  }

  /** Leaves netmap mode where nobody else keeps it. Extra buffers must be on their list again. */
  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#shared !== undefined) this.#netmap.shared.unshare(this.#shared);
    await this.#netmap.close(this.#priv);
  }

  /** As `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function placeOf(name: string, priv: Priv, na: NetmapAdapter): PortPlace {
  const { memory } = na;
  return {
    name,
    region: memory.region,
    ifAt: priv.ifAt,
    firstTx: priv.ranges.first[Txrx.TX]!,
    lastTx: priv.ranges.last[Txrx.TX]!,
    firstRx: priv.ranges.first[Txrx.RX]!,
    lastRx: priv.ranges.last[Txrx.RX]!,
    buffersAt: memory.buffersAt,
    bufSize: memory.bufSize,
    objTotal: memory.objTotal,
  };
}
