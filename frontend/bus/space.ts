/**
 * The function's bus space: the owner of each address, and the checks of device accesses.
 *
 *   bit   47 ........ 32 31 ................ 12 11 ....... 0
 *        | generation   |  granule             | within it   |
 *         0: coherent     owner: one map or one window, never both
 *         else: a load
 *
 * Every device access is checked here, against the mappings at that moment. A frame into one buffer
 * costs two array loads and a few compares. A refused access changes nothing, is counted by name,
 * and is reported to the device. No message of a device makes these methods throw.
 */
import { copyBytes } from "../../shared/bytes/copy.ts";
import type { Logger } from "../../shared/log.ts";
import { isPowerOfTwo } from "../../shared/ring/phase.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import {
  type BusAddress,
  beyond,
  busAddress,
  RecordType,
  Space,
} from "../../shared/wire/records.ts";
import { GRANT_PAGE_BYTES, type GrantRef, grantAddress, grantRef } from "../../shared/xen/grant.ts";
import { CoherentMemory } from "./coherent.ts";
import type { DeviceLink } from "./device-link.ts";
import { type DmaFault, type FaultCounters, FaultReporter } from "./faults.ts";
import { GRANULE_BYTES, GRANULE_SHIFT, GranuleAllocator, granulesFor } from "./granules.ts";
import type { DmaMap } from "./map.ts";
import { LoadTable, type MapRow } from "./map-row.ts";
import { BusSpaceExhausted, DmaMisuse } from "./misuse.ts";
import { DmaTag, type TagParams } from "./tag.ts";

/** Bytes in memory of this process: buffer[at .. at + length). */
export interface Span {
  buffer: Uint8Array;
  at: number;
  length: number;
}

const TWO_32 = 2 ** 32;
const NO_BYTES = new Uint8Array(0);
/** Most pages of one record in Space.GRANT, which may begin in the middle of a page. */
const MAX_PAGES = Limits.RECORD_BYTES / GRANT_PAGE_BYTES + 1;
/** Time (ms) after a reset in which late accesses to old mappings are expected. */
const RESET_GRACE_MS = 1000;

/** Stands for the bus address of an access that a grant does not allow. */
export const REFUSED = busAddress(-1);

/** The grants by which a device reaches addresses in Space.GRANT. */
export interface GrantAccess {
  /**
   * Returns the bus address of `length` bytes at `offset` of the page granted by `reference`, or
   * REFUSED. `refusal` says why then.
   */
  addressOf(reference: GrantRef, offset: number, length: number, writes: boolean): BusAddress;
  /** Negated GNTST status with which the last access was refused, if it was. */
  readonly refusal: number;
}

export interface DmaSpaceOptions {
  log: Logger;
  /** Milliseconds of a monotonic clock; for tests. */
  now?: () => number;
}

export class DmaSpace {
  /** Allocator for the tags and windows of this space. */
  readonly granules = new GranuleAllocator();
  /** Loads of rows. */
  readonly loads = new LoadTable();
  /** Owner of each granule. Each table contains objects of one shape only. */
  readonly #maps: (DmaMap | undefined)[] = [];
  readonly #rows: (MapRow | undefined)[] = [];
  readonly #windows: (CoherentMemory | undefined)[] = [];
  readonly #allWindows = new Set<CoherentMemory>();
  #windowBytes = 0;
  readonly #faults: FaultReporter;
  readonly #now: () => number;
  #graceUntil = Number.NEGATIVE_INFINITY;
  readonly #span: Span = { buffer: NO_BYTES, at: 0, length: 0 };
  /** Places of the pages that a record names, while it is applied. */
  readonly #pageBuffers = new Array<Uint8Array>(MAX_PAGES).fill(NO_BYTES);
  readonly #pageAts = new Int32Array(MAX_PAGES);
  /** The link, or undefined while no device is connected. Posts are dropped then. */
  link: DeviceLink | undefined;
  /** Bytes of pushes that the device keeps for this NIC, from its welcome. */
  pushBytes: number = Limits.PUSH_BYTES;
  /** When set, a device reaches this memory by grant only. */
  grants: GrantAccess | undefined;

  constructor({ log, now = () => performance.now() }: DmaSpaceOptions) {
    this.#now = now;
    this.#faults = new FaultReporter(log, now);
    this.#fitTables();
  }

  /** All coherent memory. */
  get windows(): Iterable<CoherentMemory> {
    return this.#allWindows;
  }

  /** Number of refused accesses by name, since the space was created. */
  get faults(): Readonly<FaultCounters> {
    return this.#faults.counters;
  }

  /**
   * Attaches the link to a device, which has no state of this NIC. Announces every window, and
   * sends the contents of those that are not all zero, so that both sides have the same bytes
   * again. Streaming maps need no message.
   */
  attachLink(link: DeviceLink): void {
    this.link = link;
    this.#faults.link = link;
    for (const window of this.#allWindows) {
      link.window(window.address, window.bytes.length);
      if (window.bytes.some((byte) => byte !== 0)) {
        window.publish(0, window.bytes.length, RecordType.RAW);
      }
    }
    link.scheduleFlush();
  }

  detachLink(): void {
    this.link = undefined;
    this.#faults.link = undefined;
  }

  /**
   * bus_dmamem_alloc(9): allocates `bytes` zeroes at a multiple of `alignment`, a power of two.
   * Throws BusSpaceExhausted (ENOMEM) when the link's windows or the bus space are used up.
   */
  allocCoherent(bytes: number, alignment: number, name: string): CoherentMemory {
    if (!Number.isInteger(bytes) || bytes < 1 || bytes > Limits.WINDOW_BYTES) {
      throw new DmaMisuse("COHERENT_PARAMS", `${name}: ${bytes} bytes of coherent memory`);
    }
    if (!isPowerOfTwo(alignment)) {
      throw new DmaMisuse("COHERENT_PARAMS", `${name}: alignment ${alignment}`);
    }
    const tooMany = this.#allWindows.size >= Limits.WINDOWS;
    if (tooMany || this.#windowBytes + bytes > Limits.WINDOWS_BYTES) {
      throw new BusSpaceExhausted(`${name}: a link carries no more windows`);
    }
    const count = windowGranules(bytes);
    const granule = this.granules.take(count, Math.max(1, alignment / GRANULE_BYTES));
    if (granule === 0) throw new BusSpaceExhausted(`${name}: no bus space for ${bytes} bytes`);
    this.#fitTables();
    const window = new CoherentMemory(this, name, busAddress(granule * GRANULE_BYTES), bytes);
    this.#windows.fill(window, granule, granule + count);
    this.#allWindows.add(window);
    this.#windowBytes += bytes;
    this.link?.window(window.address, bytes);
    return window;
  }

  /** Called by CoherentMemory.free. */
  freeCoherent(window: CoherentMemory): void {
    const granule = window.address / GRANULE_BYTES;
    const count = windowGranules(window.bytes.length);
    this.#windows.fill(undefined, granule, granule + count);
    this.#allWindows.delete(window);
    this.#windowBytes -= window.bytes.length;
    this.granules.give(granule, count);
    this.link?.endWindow(window.address);
  }

  /** Creates a tag, as bus_dma_tag_create(9) does. Throws DmaMisuse for bad parameters. */
  createTag(params: TagParams): DmaTag {
    return new DmaTag(this, params);
  }

  /** Called by DmaTag. Makes the map the owner of these granules. */
  enterMap(map: DmaMap, granule: number, count: number): void {
    this.#fitTables();
    this.#maps.fill(map, granule, granule + count);
  }

  /** Called by DmaTag. Removes the owner of these granules. */
  leaveMap(map: DmaMap, granule: number, count: number): void {
    this.#maps.fill(undefined, granule, granule + count);
    this.loads.latest.fill(map.generation, granule, granule + count);
  }

  /** Called by DmaTag. Makes the row the owner of its granules. */
  enterRow(row: MapRow): void {
    this.#fitTables();
    const { first, stride, count } = row;
    this.#rows.fill(row, first, first + count * stride);
    for (let g = first; g < first + count * stride; g += stride) {
      this.loads.latest[g] = this.lastGeneration(g, stride);
    }
  }

  /** Called by DmaTag. Removes the owner of these granules. */
  leaveRow({ first, stride, count }: MapRow): void {
    const end = first + count * stride;
    const { latest, buffers } = this.loads;
    this.#rows.fill(undefined, first, end);
    buffers.fill(NO_BYTES, first, end);
    for (let g = first; g < end; g += stride) latest.fill(latest[g]!, g, g + stride);
  }

  /** Returns the latest generation of any of these granules. */
  lastGeneration(granule: number, count: number): number {
    this.#fitTables();
    let last = 0;
    for (let g = granule; g < granule + count; g++) last = Math.max(last, this.loads.latest[g]!);
    return last;
  }

  /**
   * Applies one record of a `write`: the device puts src[at .. at + length) at `address`. In
   * Space.GRANT the record may go on in the pages of the next references. Returns false and changes
   * nothing when the device may not.
   */
  deviceWrite(
    space: number,
    address: BusAddress,
    src: Uint8Array,
    at: number,
    length: number,
  ): boolean {
    let to = address;
    if (space !== Space.BUS || this.grants !== undefined) {
      if (length > leftInPage(address) && space === Space.GRANT && this.grants !== undefined) {
        return this.#writePages(address, src, at, length);
      }
      to = this.#granted(space, address, length, true);
      if (to === REFUSED) return false;
      if (length === 0) return true;
    }
    const generation = Math.floor(to / TWO_32);
    // An address of NaN or Infinity gives NaN, and NaN >>> 12 is granule 0, which has no owner.
    const low = to - generation * TWO_32;
    const granule = low >>> GRANULE_SHIFT;
    // Fast paths: one buffer, loaded now. First the maps of a row.
    const { current, buffers, ats, lengths } = this.loads;
    const within = low & (GRANULE_BYTES - 1);
    if (
      generation !== 0 &&
      current[granule] === generation &&
      within + length <= lengths[granule]! &&
      length > 0
    ) {
      copyBytes(src, at, buffers[granule]!, ats[granule]! + within, length);
      return true;
    }
    const map = this.#maps[granule];
    // The piece of a map that is not loaded has 0 bytes.
    if (
      map !== undefined &&
      map.current === generation &&
      low - map.base + length <= map.pieceLength &&
      length > 0 &&
      map.deviceMayWrite
    ) {
      copyBytes(src, at, map.pieceBuffer, map.pieceAt + (low - map.base), length);
      return true;
    }
    const span = this.#find(to, length, true);
    if (span === undefined) return false;
    copyBytes(src, at, span.buffer, span.at, length);
    return true;
  }

  /** As deviceWrite, for more than one page: checks all pages before it writes to the first. */
  #writePages(address: BusAddress, src: Uint8Array, at: number, length: number): boolean {
    const buffers = this.#pageBuffers;
    const ats = this.#pageAts;
    let pages = 0;
    for (let done = 0; done < length; pages++) {
      const from = beyond(address, done);
      const part = Math.min(leftInPage(from), length - done);
      const to = this.#granted(Space.GRANT, from, part, true);
      const span = to === REFUSED ? undefined : this.#find(to, part, true);
      if (span === undefined) return false;
      buffers[pages] = span.buffer;
      ats[pages] = span.at;
      done += part;
    }
    let done = 0;
    for (let i = 0; i < pages; i++) {
      const part = Math.min(leftInPage(beyond(address, done)), length - done);
      copyBytes(src, at + done, buffers[i]!, ats[i]!, part);
      done += part;
    }
    return true;
  }

  /**
   * Returns the bytes for a `read`, or undefined when the device may not read them. The span is the
   * memory itself, not a copy. The caller may use it until the next call on this object.
   */
  deviceRead(space: number, address: BusAddress, length: number): Span | undefined {
    if (space === Space.BUS && this.grants === undefined) return this.#find(address, length, false);
    const granted = this.#granted(space, address, length, false);
    if (granted === REFUSED) return undefined;
    return length === 0 ? this.#spanOf(NO_BYTES, 0, 0) : this.#find(granted, length, false);
  }

  /** Negated GNTST status of the last refused read, or 1 (general_error). */
  get refusal(): number {
    return this.grants?.refusal ?? 1;
  }

  /** Called by the grant table. Counts and reports a use of `reference` that it refused. */
  refuseGrant(reference: GrantRef, what: string): void {
    this.#faults.report("grant", Space.GRANT, grantAddress(reference, 0), what, 0);
  }

  /** For the next second, late accesses to mappings that the reset ended are only counted. */
  onDeviceReset(): void {
    this.#graceUntil = this.#now() + RESET_GRACE_MS;
  }

  /** Call once a second. Reports how many faults of a burst were not reported one by one. */
  tick(): void {
    this.#faults.tick();
  }

  /** Called by the map that was unloaded. */
  unloadedBusy(name: string, address: BusAddress, length: number): void {
    const what = `${name} unloaded before its descriptor completed`;
    this.#faults.report("unload_busy", Space.BUS, address, what, length);
  }

  /** Returns the bus address of an access by grant, or REFUSED, also for any other access. */
  #granted(space: number, address: BusAddress, length: number, writes: boolean): BusAddress {
    const { grants } = this;
    if (grants === undefined || space !== Space.GRANT) {
      this.#refuse("space", space, address, length, writes);
      return REFUSED;
    }
    // As in Xen, a copy of no bytes passes for every reference.
    if (length === 0) return address;
    const reference = grantRef(Math.floor(address / GRANT_PAGE_BYTES));
    const offset = address - reference * GRANT_PAGE_BYTES;
    const to = grants.addressOf(reference, offset, length, writes);
    if (to === REFUSED) this.#refuse("grant", space, address, length, writes);
    return to;
  }

  /** Makes all checks of a bus address, in order: numbers, owner, generation, range, direction. */
  #find(address: BusAddress, length: number, writes: boolean): Span | undefined {
    const sane = Number.isSafeInteger(address) && address >= 0 && address <= Limits.ADDRESS;
    if (!sane || !Number.isSafeInteger(length) || length < 0) {
      return this.#refuse("range", Space.BUS, address, length, writes);
    }
    return address < TWO_32
      ? this.#findInWindow(address, length, writes)
      : this.#findInMap(address, length, writes);
  }

  #findInWindow(address: BusAddress, length: number, writes: boolean): Span | undefined {
    const window = this.#windows[address >>> GRANULE_SHIFT];
    if (window === undefined) return this.#refuse("unmapped", Space.BUS, address, length, writes);
    const place = address - window.address;
    if (place + length > window.bytes.length) {
      return this.#refuse("range", Space.BUS, address, length, writes);
    }
    return this.#spanOf(window.bytes, place, length);
  }

  #findInMap(address: BusAddress, length: number, writes: boolean): Span | undefined {
    const generation = Math.floor(address / TWO_32);
    const low = address - generation * TWO_32;
    const granule = low >>> GRANULE_SHIFT;
    const row = this.#rows[granule];
    if (row !== undefined) return this.#findInRow(row, address, length, writes);
    const map = this.#maps[granule];
    if (map === undefined || map.current === 0) {
      const last = map === undefined ? this.loads.latest[granule] : map.generation;
      if (generation === last) return this.#late("unmapped", address, length, writes);
      return this.#refuse("unmapped", Space.BUS, address, length, writes);
    }
    if (map.current !== generation) return this.#late("stale_generation", address, length, writes);
    const place = low - map.base;
    const piece = map.pieceHolding(place, length);
    if (piece < 0) return this.#refuse("range", Space.BUS, address, length, writes);
    if (!(writes ? map.deviceMayWrite : map.deviceMayRead)) {
      return this.#refuse("direction", Space.BUS, address, length, writes);
    }
    return this.#spanOf(map.pieceMemory(piece), map.pieceOffset(piece, place), length);
  }

  #findInRow(row: MapRow, address: BusAddress, length: number, writes: boolean): Span | undefined {
    const generation = Math.floor(address / TWO_32);
    const low = address - generation * TWO_32;
    const { first, stride } = row;
    const granule = (low >>> GRANULE_SHIFT) - (((low >>> GRANULE_SHIFT) - first) % stride);
    const { current, latest, buffers, ats, lengths } = this.loads;
    if (current[granule] !== generation) {
      if (current[granule] !== 0) return this.#late("stale_generation", address, length, writes);
      if (latest[granule] === generation) return this.#late("unmapped", address, length, writes);
      return this.#refuse("unmapped", Space.BUS, address, length, writes);
    }
    const place = low - granule * GRANULE_BYTES;
    if (place + length > lengths[granule]!) {
      return this.#refuse("range", Space.BUS, address, length, writes);
    }
    if (!writes) return this.#refuse("direction", Space.BUS, address, length, writes);
    return this.#spanOf(buffers[granule]!, ats[granule]! + place, length);
  }

  #spanOf(buffer: Uint8Array, at: number, length: number): Span {
    this.#span.buffer = buffer;
    this.#span.at = at;
    this.#span.length = length;
    return this.#span;
  }

  /** Handles an access to an ended mapping: expected after a reset, otherwise a fault. */
  #late(name: DmaFault, address: BusAddress, length: number, writes: boolean): undefined {
    if (this.#now() < this.#graceUntil) this.#faults.count(name);
    else this.#refuse(name, Space.BUS, address, length, writes);
    return undefined;
  }

  #refuse(
    name: DmaFault,
    space: number,
    address: BusAddress,
    length: number,
    writes: boolean,
  ): undefined {
    const what = writes ? "device write refused" : "device read refused";
    this.#faults.report(name, space, address, what, length);
    return undefined;
  }

  /** Extends every table to the allocator's end, without holes. */
  #fitTables(): void {
    const end = this.granules.end;
    if (this.#maps.length >= end) return;
    while (this.#maps.length < end) this.#maps.push(undefined);
    while (this.#rows.length < end) this.#rows.push(undefined);
    while (this.#windows.length < end) this.#windows.push(undefined);
    this.loads.fit(end);
  }
}

/** Returns the number of bytes from `address` to the end of its page. */
const leftInPage = (address: BusAddress): number =>
  GRANT_PAGE_BYTES - (address & (GRANT_PAGE_BYTES - 1));

/** Returns the granules for one byte more than asked for: no window ends where the next begins. */
const windowGranules = (bytes: number): number => granulesFor(bytes + 1);
