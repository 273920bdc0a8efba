/**
 * The module: which interfaces, ports, switches and memory regions there are, and who may have
 * which. A kernel has one; a process may have several, which know nothing of each other.
 *
 *   driver ──► attach(params) ──► NativeAdapter        addInterface: any ifnet, for the emulated one
 *   nmOpen ──► open(name) ──► null? monitor? pipe? vale? interface: native, else emulated
 *
 * Opening and closing is serialised by one lock (NMG_LOCK), because a driver's nm_register takes
 * its time. Adapters are counted: what an opening made goes with its last user.
 *
 * Source: netmap: sys/dev/netmap/netmap.c, netmap_get_na, netmap_get_hw_na, netmap_ioctl.
 */

import { type Logger, silentLogger } from "../../shared/log.ts";
import { AsyncLock } from "../async-lock.ts";
import { Errno } from "../bus/errno.ts";
import type { Ifnet } from "../net/ifnet.ts";
import {
  NativeAdapter,
  type NativeParams,
  type NetmapAdapter,
  type RingCounts,
} from "./adapter.ts";
import {
  EMULATED_DEFAULTS,
  EmulatedAdapter,
  type EmulatedOptions,
  emulatedCounts,
} from "./emulated.ts";
import { NetmapError } from "./errors.ts";
import { MAX_RINGS, MAX_SLOTS, MONITOR_FLAGS, Naf, RegFlag, RegMode, Stopped } from "./flags.ts";
import {
  DEFAULT_SIZES,
  type MemorySizes,
  NetmapMemory,
  privateSizes,
  SPARE_SIZES,
} from "./memory.ts";
import { MonitorAdapter } from "./monitor.ts";
import { NullAdapter } from "./null.ts";
import { PipeAdapter } from "./pipe.ts";
import { type PortName, parsePortName } from "./port-name.ts";
import { checkRegion, RegionNeed } from "./region-need.ts";
import { Priv, RegisterRequest } from "./register.ts";
import { SharedPorts } from "./shared-port.ts";
import { MAX_SWITCHES, ValePort, ValeSwitch } from "./vale.ts";

/** dev.netmap.admode: native where there is support, only native, or always emulated. */
export type AdapterMode = "best" | "native" | "generic";

/** Options of a Netmap. */
export interface NetmapOptions {
  readonly log?: Logger;
  /** Pools of region 1, which does not grow then. */
  readonly memory?: MemorySizes;
  readonly adapterMode?: AdapterMode;
  readonly emulated?: EmulatedOptions;
}

/** The rest of a request; what is left out is 0. */
export type RequestOptions = Partial<Omit<RegisterRequest, "mode" | "ringId" | "memId">>;

const GLOBAL_MEMORY = 1;
const VALE_SLOTS = 1024;
/** Pipes that the memory of a VALE port has room for. */
const VALE_PIPES = 2;
const VALE_EXTRA_LIMIT = 128 * MAX_SLOTS.VALE;
const SWITCH_NAME = /^vale[A-Za-z0-9_]*$/;

type Found = NetmapAdapter | undefined;

/**
 * netmap of one process: its memory regions, the interfaces that support it, VALE switches and
 * pipes. `nmOpen` opens a port of it.
 */
export class Netmap {
  /** Of openings, and of applications' mistakes. */
  log: Logger;
  /** Ports whose application is in another thread. */
  readonly shared = new SharedPorts();
  readonly #adapterMode: AdapterMode;
  readonly #emulated: EmulatedOptions;
  readonly #interfaces = new Map<string, Ifnet>();
  /** NA(ifp): native, or the emulated one while it is open. */
  readonly #adapters = new Map<Ifnet, NetmapAdapter>();
  readonly #memories = new Map<number, NetmapMemory>();
  /** Region 1 grows with what is asked of it. */
  readonly #mayGrow: boolean;
  readonly #switches: ValeSwitch[] = [];
  /** Persistent VALE ports by the name they were made with; `true`: goes with its last user. */
  readonly #persistent = new Map<string, { port: ValePort; autodelete: boolean }>();
  readonly #lock = new AsyncLock();

  constructor(options: NetmapOptions = {}) {
    this.log = options.log ?? silentLogger;
    this.#adapterMode = options.adapterMode ?? "best";
    this.#emulated = options.emulated ?? EMULATED_DEFAULTS;
    this.#mayGrow = options.memory === undefined;
    const global = new NetmapMemory(GLOBAL_MEMORY, options.memory ?? DEFAULT_SIZES, false);
    this.#memories.set(GLOBAL_MEMORY, global);
  }

  /** Region 1. */
  get memory(): NetmapMemory {
    return this.#memories.get(GLOBAL_MEMORY)!;
  }

  /**
   * For the data path, after each batch: applications in other threads have released slots meanwhile,
   * or wait for what came. True when a ring was synced.
   */
  service(): boolean {
    return this.shared.service();
  }

  /** Gives an interface without netmap support a name that ports can be opened by. */
  addInterface(ifnet: Ifnet): void {
    if (this.#interfaces.has(ifnet.name)) {
      throw new NetmapError(Errno.EEXIST, `there is an interface ${ifnet.name} already`);
    }
    this.#interfaces.set(ifnet.name, ifnet);
  }

  /**
   * Makes region 1 large enough for these ports to be open at the same time, beside all rings of
   * the interfaces there are. Without effect while a port of that region is open, and where the
   * pools were given. Throws a NetmapError when a port asks for rings that its interface does not
   * have, or when no region can be that large.
   */
  reserve(names: readonly string[], options: RequestOptions = {}): void {
    const need = new RegionNeed();
    for (const ifnet of this.#interfaces.values()) {
      need.addInterface(this.#countsOf(ifnet));
    }
    const pipes = new Set<string>();
    for (const text of names) {
      const port = parsePortName(text);
      const [base, ...rest] = port.name.split(/[{}]/);
      const ifnet = this.#interfaces.get(base!);
      // VALE ports, and pipes on nothing else, have regions of their own.
      if (ifnet === undefined || port.memId > GLOBAL_MEMORY) continue;
      const counts = this.#countsOf(ifnet);
      if (rest.length === 0) {
        checkRings(text, port, counts);
        need.addOpening(counts);
      } else if (!pipes.has(`${base}{${rest[0]}`)) {
        pipes.add(`${base}{${rest[0]}`);
        need.addPipe(pipeCounts({ ...new RegisterRequest(), ...options }, counts));
      }
    }
    if (!this.#mayGrow || this.memory.active > 0) return;
    const sizes = need.sizes(this.memory.sizes, SPARE_SIZES);
    checkRegion(sizes, names.length === 0 ? "netmap" : describe(names));
    if (isLarger(sizes, this.memory.sizes)) this.memory.resize(sizes);
  }

  /** Rings of an interface as its next first opening has them. */
  #countsOf(ifnet: Ifnet): RingCounts {
    const na = this.#adapters.get(ifnet);
    return na?.config() ?? na ?? emulatedCounts(this.#emulated);
  }

  /** Returns whether an interface of this name is attached. */
  hasInterface(name: string): boolean {
    return this.#interfaces.has(name);
  }

  /** The interface is gone; ports that are open on it show errors from here on. */
  removeInterface(ifnet: Ifnet): void {
    if (this.#interfaces.get(ifnet.name) === ifnet) this.#interfaces.delete(ifnet.name);
    const na = this.#adapters.get(ifnet);
    if (na instanceof EmulatedAdapter) na.flags |= Naf.ZOMBIE;
  }

  /**
   * netmap_attach: a driver with native support. Throws when the parameters can't be, or when the
   * interface has a native adapter already.
   */
  attach(params: NativeParams): NativeAdapter {
    const { ifnet } = params;
    if (params.numTxRings === 0 || params.numRxRings === 0) {
      throw new NetmapError(Errno.EINVAL, `${ifnet.name}: netmap needs a ring each way`);
    }
    const before = this.#adapters.get(ifnet);
    if (before !== undefined && (before.flags & Naf.ZOMBIE) === 0) {
      throw new NetmapError(Errno.EBUSY, `${ifnet.name}: has a netmap adapter already`);
    }
    if (this.#interfaces.get(ifnet.name) !== ifnet) this.addInterface(ifnet);
    const na = new NativeAdapter(params, this.memory);
    na.dtor = () => {
      if (this.#adapters.get(ifnet) === na) this.#adapters.delete(ifnet);
    };
    na.refs = 1;
    this.#adapters.set(ifnet, na);
    return na;
  }

  /**
   * netmap_detach: the driver goes. While ports are open the adapter stays as a zombie, whose
   * driver is not called again and whose syncs fail.
   */
  detach(na: NativeAdapter): void {
    na.setAllRings(Stopped.LOCKED);
    na.flags |= Naf.ZOMBIE;
    this.put(na);
    na.setAllRings(Stopped.NO);
  }

  /** NETMAP_REQ_REGISTER on a descriptor of its own. Rejects with a NetmapError. */
  async open(port: PortName, options: RequestOptions = {}): Promise<Priv> {
    if (port.options !== "") {
      throw new NetmapError(Errno.EOPNOTSUPP, `${port.name}: options ${port.options} are unknown`);
    }
    const request: RegisterRequest = {
      ...new RegisterRequest(),
      ...options,
      mode: port.mode,
      ringId: port.ringId,
      memId: port.memId,
      flags: port.flags | (options.flags ?? 0),
    };
    return await this.#lock.run(async () => {
      // The interfaces that there are now decide how large region 1 is.
      if (this.memory.active === 0) this.reserve([]);
      return await this.#register(port.name, request);
    });
  }

  /** close(2) on a descriptor; a second time does nothing. */
  async close(priv: Priv): Promise<void> {
    await this.#lock.run(async () => {
      const { na } = priv;
      if (na === undefined) return;
      await priv.unregif();
      this.put(na);
    });
  }

  async #register(name: string, request: RegisterRequest): Promise<Priv> {
    const na = this.#getNa(name, request);
    na.refs++;
    try {
      if (na.virtHdrLen !== 0 && (request.flags & RegFlag.ACCEPT_VNET_HDR) === 0) {
        throw new NetmapError(Errno.EIO, `${name} has virtio-net headers, which were not accepted`);
      }
      const priv = new Priv();
      const error = await priv.regif(na, request);
      if (error !== 0) throw new NetmapError(error, refusal(name, na, error));
      na.log = this.log;
      this.log.debug({ port: name, memory: na.memory.id }, "netmap port opened");
      return priv;
    } catch (error) {
      this.put(na);
      throw error;
    }
  }

  /** netmap_adapter_put */
  put(na: NetmapAdapter): void {
    na.refs--;
    if (na.refs > 0) return;
    if (na.refs < 0) throw new Error(`${na.name}: released once too often`);
    na.dtor();
  }

  /** netmap_get_na: the adapter for a name, made when there is none; the caller counts its use. */
  #getNa(name: string, request: RegisterRequest): NetmapAdapter {
    const na =
      this.#getNull(name, request) ??
      this.#getMonitor(name, request) ??
      this.#getPipe(name, request) ??
      this.#getVale(name, request) ??
      this.#getInterface(name, request);
    if (na === undefined) {
      throw new NetmapError(Errno.ENXIO, `there is no interface ${name}`);
    }
    return na;
  }

  #memoryOf(request: RegisterRequest): NetmapMemory | undefined {
    if (request.memId === 0) return undefined;
    const memory = this.#memories.get(request.memId);
    if (memory === undefined) {
      throw new NetmapError(Errno.EINVAL, `there is no memory region ${request.memId}`);
    }
    return memory;
  }

  #newMemory(sizes: MemorySizes): NetmapMemory {
    let id = GLOBAL_MEMORY + 1;
    while (this.#memories.has(id)) id++;
    const memory = new NetmapMemory(id, sizes, true);
    this.#memories.set(id, memory);
    return memory;
  }

  #getNull(name: string, request: RegisterRequest): Found {
    if (request.mode !== RegMode.NULL) return undefined;
    const memory = this.#memoryOf(request);
    if (memory === undefined) {
      throw new NetmapError(Errno.EINVAL, `${name}: a null port needs the id of a memory region`);
    }
    const { txRings, txSlots, rxRings, rxSlots } = request;
    return new NullAdapter(name, ringCounts(txRings, txSlots, rxRings, rxSlots), memory);
  }

  #getMonitor(name: string, request: RegisterRequest): Found {
    let { flags } = request;
    if ((flags & MONITOR_FLAGS) === 0) return undefined;
    if ((flags & RegFlag.ZCOPY_MON) !== 0) flags |= RegFlag.MONITOR_TX | RegFlag.MONITOR_RX;
    const parent = this.#getNa(name, { ...request, flags: flags & ~MONITOR_FLAGS });
    parent.refs++;
    if (!parent.isOn) {
      this.put(parent);
      throw new NetmapError(Errno.EINVAL, `${name} is not open, so there is nothing to monitor`);
    }
    const counts = ringCounts(
      1,
      bounded(request.txSlots, parent.numTxDesc, MAX_SLOTS.MONITOR),
      Math.max(parent.numTxRings, parent.numRxRings),
      bounded(request.rxSlots, parent.numRxDesc, MAX_SLOTS.MONITOR),
    );
    const isZeroCopy = (flags & RegFlag.ZCOPY_MON) !== 0;
    const memory = isZeroCopy ? parent.memory : this.#newMemory(privateSizes(counts, 0, 0));
    const na = new MonitorAdapter(parent, flags, counts, memory);
    na.dtor = () => {
      this.put(parent);
      if (!isZeroCopy) this.#memories.delete(memory.id);
    };
    return na;
  }

  #getPipe(name: string, request: RegisterRequest): Found {
    const at = Math.max(name.lastIndexOf("{"), name.lastIndexOf("}"));
    if (at < 0) return undefined;
    const base = name.slice(0, at);
    const id = name.slice(at + 1);
    const isMaster = name.charAt(at) === "{";
    const hasRings = request.mode === RegMode.ALL_NIC || request.mode === RegMode.ONE_NIC;
    if (base === "" || id === "" || !hasRings) {
      throw new NetmapError(Errno.EINVAL, `${name}: not how a pipe is named or opened`);
    }
    const parent = this.#pipeParent(base, request);
    const master = parent.pipes.get(id) as PipeAdapter | undefined;
    if (master !== undefined) return isMaster ? master : master.peer;
    const put = (na: NetmapAdapter): void => this.put(na);
    return PipeAdapter.pair(parent, id, isMaster, pipeCounts(request, parent), put);
  }

  /** A pipe may hang on a name that is no port: it then gets a VALE port of its own to hang on. */
  #pipeParent(base: string, request: RegisterRequest): NetmapAdapter {
    const ofParent = { ...request, txSlots: 0, rxSlots: 0, txRings: 0, rxRings: 0 };
    try {
      return this.#getNa(base, ofParent);
    } catch (error) {
      if (!(error instanceof NetmapError) || error.errno !== Errno.ENXIO) throw error;
    }
    const pipe = pipeCounts(request, ringCounts(1, VALE_SLOTS, 1, VALE_SLOTS));
    return this.#newPersistent(base, ofParent, true, {
      rings: pipe.numTxRings + pipe.numRxRings,
      slots: Math.max(pipe.numTxDesc, pipe.numRxDesc),
    });
  }

  #getVale(name: string, request: RegisterRequest): Found {
    const colon = name.indexOf(":");
    if (!name.startsWith("vale") || colon < 0) return undefined;
    const bridge = this.#bridge(switchName(name.slice(0, colon)));
    const known = bridge.find(name);
    if (known !== undefined) return known;
    const local = name.slice(colon + 1);
    if (this.#interfaces.has(local) || this.#persistent.has(local)) {
      throw new NetmapError(Errno.EINVAL, `${name}: ${local} is an interface, to be attached`);
    }
    const port = this.#newValePort(name, request);
    if (!bridge.plug(port)) {
      port.dtor();
      throw new NetmapError(Errno.ENOMEM, `${bridge.name} is full`);
    }
    return port;
  }

  /** nm_find_bridge: creates the switch when there is none. */
  #bridge(name: string): ValeSwitch {
    const known = this.#switches.find((s) => s.name === name);
    if (known !== undefined) return known;
    const free = this.#switches.findIndex((s) => s.active === 0);
    if (free < 0 && this.#switches.length === MAX_SWITCHES) {
      throw new NetmapError(Errno.ENOMEM, `there are ${MAX_SWITCHES} VALE switches already`);
    }
    const made = new ValeSwitch(name);
    if (free < 0) this.#switches.push(made);
    else this.#switches[free] = made;
    return made;
  }

  #newValePort(
    name: string,
    request: RegisterRequest,
    pipe?: { readonly rings: number; readonly slots: number },
  ): ValePort {
    const counts = ringCounts(
      bounded(request.txRings, 1, MAX_RINGS.VALE),
      bounded(request.txSlots, VALE_SLOTS, MAX_SLOTS.VALE),
      bounded(request.rxRings, 1, MAX_RINGS.VALE),
      bounded(request.rxSlots, VALE_SLOTS, MAX_SLOTS.VALE),
    );
    const extra = Math.min(request.extraBufs, VALE_EXTRA_LIMIT);
    const sizes = privateSizes(counts, extra, Math.max(VALE_PIPES, request.pipes), pipe);
    const given = this.#memoryOf(request);
    if (given === undefined) checkRegion(sizes, name);
    const memory = given ?? this.#newMemory(sizes);
    const port = new ValePort(name, counts, memory);
    port.dtor = () => {
      port.bridge?.unplug(port);
      if (given === undefined) this.#memories.delete(memory.id);
    };
    return port;
  }

  #newPersistent(
    name: string,
    request: RegisterRequest,
    autodelete: boolean,
    pipe?: { readonly rings: number; readonly slots: number },
  ): ValePort {
    if (this.#persistent.has(name) || this.#interfaces.has(name)) {
      throw new NetmapError(Errno.EEXIST, `there is an interface ${name} already`);
    }
    const port = this.#newValePort(name, request, pipe);
    if (!autodelete) port.refs = 1;
    const { dtor } = port;
    port.dtor = () => {
      dtor();
      this.#persistent.delete(name);
    };
    this.#persistent.set(name, { port, autodelete });
    return port;
  }

  /** netmap_get_hw_na */
  #getInterface(name: string, request: RegisterRequest): Found {
    const persistent = this.#persistent.get(name);
    if (persistent !== undefined) return persistent.port;
    const ifnet = this.#interfaces.get(name);
    if (ifnet === undefined) return undefined;
    const na = this.#hardware(name, ifnet);
    const memory = this.#memoryOf(request);
    if (na.activeFds > 0) return na;
    if (memory !== undefined && (na.flags & Naf.MEM_OWNER) === 0 && na.memory !== memory) {
      na.memoryPrev = na.memory;
      na.memory = memory;
    }
    if (na.hasHostRings) {
      if (request.hostTxRings > 0) na.numHostTxRings = request.hostTxRings;
      if (request.hostRxRings > 0) na.numHostRxRings = request.hostRxRings;
    }
    return na;
  }

  #hardware(name: string, ifnet: Ifnet): NetmapAdapter {
    const before = this.#adapters.get(ifnet);
    if (before !== undefined) {
      const isWanted =
        this.#adapterMode !== "generic" || before.activeFds > 0 || before.pipes.size > 0;
      if (isWanted) return before;
    } else if (this.#adapterMode === "native") {
      throw new NetmapError(Errno.EOPNOTSUPP, `${name}: its driver does not support netmap`);
    }
    const na = new EmulatedAdapter(ifnet, this.#emulated, this.memory);
    na.dtor = () => {
      if (this.#adapters.get(ifnet) !== na) return;
      if (before === undefined) this.#adapters.delete(ifnet);
      else this.#adapters.set(ifnet, before);
    };
    this.#adapters.set(ifnet, na);
    this.log.debug({ port: name }, "netmap is emulated here");
    return na;
  }

  /** NETMAP_REQ_VALE_NEWIF: a VALE port that stays, on no switch yet. Throws EEXIST. */
  valeNewif(name: string, options: RequestOptions = {}): void {
    this.#newPersistent(name, { ...new RegisterRequest(), ...options }, false);
  }

  /** NETMAP_REQ_VALE_DELIF: ENXIO when there is none, EBUSY while it is attached or open. */
  valeDelif(name: string): void {
    const entry = this.#persistent.get(name);
    if (entry === undefined) throw new NetmapError(Errno.ENXIO, `there is no VALE port ${name}`);
    const { port, autodelete } = entry;
    if (autodelete) throw new NetmapError(Errno.EINVAL, `${name} belongs to its pipes`);
    if (port.bridge !== undefined || port.refs > 1) {
      throw new NetmapError(Errno.EBUSY, `${name} is attached to a switch, or open`);
    }
    this.put(port);
  }

  /** NETMAP_REQ_VALE_ATTACH of a persistent port, as "vale0:name". NICs can't be attached. */
  valeAttach(name: string): void {
    const { bridgeName, port } = this.#attachable(name);
    const bridge = this.#bridge(bridgeName);
    if (port.bridge !== undefined) {
      throw new NetmapError(Errno.EBUSY, `${name} is attached to ${port.bridge.name} already`);
    }
    if (!bridge.plug(port)) throw new NetmapError(Errno.ENOMEM, `${name}: switch full`);
    port.name = name;
  }

  /** Detaches a port from its VALE switch, as `vale-ctl -d` does. Throws NetmapError. */
  valeDetach(name: string): void {
    const { bridgeName, local, port } = this.#attachable(name);
    if (port.bridge?.name !== bridgeName) {
      throw new NetmapError(Errno.ENXIO, `${name} is not attached`);
    }
    port.bridge.unplug(port);
    port.name = local;
  }

  #attachable(name: string): { bridgeName: string; local: string; port: ValePort } {
    const colon = name.indexOf(":");
    if (colon < 0) throw new NetmapError(Errno.EINVAL, `${name}: no colon`);
    const local = name.slice(colon + 1);
    const entry = this.#persistent.get(local);
    if (entry === undefined) {
      const isNic = this.#interfaces.has(local);
      throw new NetmapError(
        isNic ? Errno.EOPNOTSUPP : Errno.ENXIO,
        isNic ? `${local}: NICs can't be attached to VALE here` : `there is no interface ${local}`,
      );
    }
    return { bridgeName: switchName(name.slice(0, colon)), local, port: entry.port };
  }

  /** NETMAP_REQ_PORT_HDR_SET: bytes of virtio-net header on a VALE port. */
  portHdrSet(name: string, bytes: number): void {
    if (bytes !== 0 && bytes !== 10 && bytes !== 12) {
      throw new NetmapError(Errno.EINVAL, `${name}: a virtio-net header has 10 or 12 bytes`);
    }
    const bridge = this.#switches.find((s) => s.name === name.slice(0, name.indexOf(":")));
    const port = bridge?.find(name);
    if (port === undefined) throw new NetmapError(Errno.ENXIO, `there is no port ${name}`);
    port.virtHdrLen = bytes;
  }

  /** NETMAP_REQ_VALE_LIST: names of the ports of each switch. */
  valeList(): { readonly name: string; readonly ports: readonly string[] }[] {
    return this.#switches
      .filter((s) => s.active > 0)
      .map(({ name, plugged }) => ({ name, ports: plugged.map((port) => port.name) }));
  }
}

/** Throws a NetmapError when the port names a ring pair that the interface does not have. */
function checkRings(text: string, { mode, ringId }: PortName, counts: RingCounts): void {
  if (mode !== RegMode.ONE_NIC || ringId < Math.max(counts.numTxRings, counts.numRxRings)) return;
  throw new NetmapError(Errno.EINVAL, noSuchRings(text, counts));
}

const noSuchRings = (name: string, { numTxRings, numRxRings }: RingCounts): string =>
  `${name}: the port has no such rings: it has ${numTxRings} to transmit and ${numRxRings} to receive, from 0`;

const ringCounts = (
  numTxRings: number,
  numTxDesc: number,
  numRxRings: number,
  numRxDesc: number,
): RingCounts => ({ numTxRings, numTxDesc, numRxRings, numRxDesc });

const pipeCounts = (request: RegisterRequest, parent: RingCounts): RingCounts =>
  ringCounts(
    bounded(request.txRings, 1, MAX_RINGS.PIPE),
    bounded(request.txSlots, parent.numTxDesc, MAX_SLOTS.PIPE),
    bounded(request.rxRings, 1, MAX_RINGS.PIPE),
    bounded(request.rxSlots, parent.numRxDesc, MAX_SLOTS.PIPE),
  );

const isLarger = (a: MemorySizes, b: MemorySizes): boolean =>
  (["ifs", "rings", "buffers"] as const).some(
    (pool) => a[pool].count > b[pool].count || a[pool].bytes > b[pool].bytes,
  );

/** "netmap:ena0 and 64 more". */
const describe = ([first, ...rest]: readonly string[]): string =>
  rest.length === 0 ? `${first}` : `${first} and ${rest.length} more`;

function switchName(name: string): string {
  if (SWITCH_NAME.test(name)) return name;
  throw new NetmapError(Errno.EINVAL, `${name} is no name of a VALE switch`);
}

/** nm_bound_var: 0 asks for the default. */
const bounded = (n: number, dflt: number, most: number): number =>
  Math.min(Math.max(n === 0 ? dflt : n, 1), most);

function refusal(name: string, na: NetmapAdapter, error: number): string {
  switch (error) {
    case Errno.EBUSY:
      return `${name}: a ring is in exclusive use, or exclusive use of one in use was asked for`;
    case Errno.ENOMEM:
      return `${name}: memory region ${na.memory.id} has no room for its rings`;
    case Errno.EINVAL: {
      const mtu = na.ifnet?.mtu ?? 0;
      return mtu > na.memory.bufSize
        ? `${name}: frames of ${mtu} bytes don't fit buffers of ${na.memory.bufSize}`
        : noSuchRings(name, na);
    }
    default:
      return `${name}: could not enter netmap mode (error ${error})`;
  }
}
