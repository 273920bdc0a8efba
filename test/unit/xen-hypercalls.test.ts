import { describe, expect, it } from "vitest";
import { EventChannels } from "../../device/xen/event-channel.ts";
import type { GrantTable } from "../../device/xen/grant-table.ts";
import { dispatch, type Hypervisor } from "../../device/xen/hypercalls.ts";
import { GuestGrants } from "../support/guest-grants.ts";

const GRANT = 20;
const SCHED = 29;
const EVENT = 32;

interface Rig {
  readonly calls: Hypervisor;
  readonly guest: GuestGrants;
  readonly events: EventChannels;
  readonly suspends: number[];
  /** A hypercall of domain 1: returns the errno and the bytes in hex. */
  ask(number: number, command: number, bytes: string): [number, string];
}

function rig(suspendErrno = 0): Rig {
  const guest = new GuestGrants();
  const other = new GuestGrants({ domid: 2 });
  // Domain 1 was granted this page by another guest, and still can't reach it by these calls.
  other.grant([[8, { flags: 1, domid: 1, frame: 5 }]]);
  const tables: Record<number, GrantTable> = { 1: guest.table, 2: other.table };
  const events = new EventChannels({ now: () => 0 });
  events.attach(1, () => {});
  events.attach(2, () => {});
  const suspends: number[] = [];
  const calls: Hypervisor = {
    grants: (domid) => tables[domid],
    events,
    suspended: (domid) => {
      suspends.push(domid);
      return suspendErrno;
    },
  };
  const ask = (number: number, command: number, text: string): [number, string] => {
    const given = Buffer.from(text.replaceAll(/\s/g, ""), "hex");
    const before = given.toString("hex");
    const { errno, bytes } = dispatch(calls, 1, number, command, given);
    expect(given.toString("hex"), "the caller's bytes stay as they are").toBe(before);
    return [errno, Buffer.from(bytes).toString("hex")];
  };
  return { calls, guest, events, suspends, ask };
}

const hex = (text: string): string => text.replaceAll(/\s/g, "");
const u16 = (n: number): string => Buffer.from([n & 255, (n >> 8) & 255]).toString("hex");
const u32 = (n: number): string => u16(n & 0xffff) + u16(n >>> 16);
/** A 64-bit kernel address, too large for a double, that has to come back unchanged. */
const ADDRESS = "8877665544332288";

const mapRef = (flags: number, ref: number, dom: number, status: number): string =>
  ADDRESS + u32(flags) + u32(ref) + u16(dom) + u16(status) + u32(0x5a5a5a5a) + ADDRESS;
const unmapRef = (handle: number, status: number): string =>
  `${ADDRESS}${ADDRESS}${u32(handle)}${u16(status)}5a5a`;
const copyPtr = (ref: number, dom: number, offset: number): string =>
  `${u32(ref)}00000000${u16(dom)}${u16(offset)}a5a5a5a5`;
const copyOp = (from: string, to: string, len: number, flags: number, status: number): string =>
  `${from}${to}${u16(len)}${u16(flags)}${u16(status)}5a5a`;

const SELF = 0x7ff0;

describe("any call", () => {
  it("unknown numbers and commands are ENOSYS", () => {
    const { ask } = rig();
    for (const number of [0, 17, 31, 255]) expect(ask(number, 0, "00")[0]).toBe(38);
    for (const command of [3, 7, 11, 12, 13, 255]) expect(ask(GRANT, command, "")[0]).toBe(38);
    for (const command of [1, 2, 7, 8, 10, 11, 12, 13, 14]) {
      expect(ask(EVENT, command, "0000000000000000")[0]).toBe(38);
    }
    for (const command of [0, 1, 3, 4]) expect(ask(SCHED, command, "02000000")[0]).toBe(38);
  });

  it("a domain without a grant table is none", () => {
    const { calls } = rig();
    expect(dispatch(calls, 9, GRANT, 6, new Uint8Array(16)).errno).toBe(3);
  });

  const single: [name: string, number: number, command: number, size: number][] = [
    ["setup_table", GRANT, 2, 24],
    ["query_size", GRANT, 6, 16],
    ["set_version", GRANT, 8, 4],
    ["get_status_frames", GRANT, 9, 16],
    ["get_version", GRANT, 10, 8],
    ["bind_interdomain", EVENT, 0, 12],
    ["close", EVENT, 3, 4],
    ["send", EVENT, 4, 4],
    ["status", EVENT, 5, 24],
    ["alloc_unbound", EVENT, 6, 8],
    ["unmask", EVENT, 9, 4],
    ["shutdown", SCHED, 2, 4],
  ];
  it.each(single)("%s (%i, %i) takes one structure of %i bytes", (_name, number, command, size) => {
    const { ask, suspends } = rig();
    for (const cut of [0, 1, size - 1]) {
      expect(ask(number, command, "00".repeat(cut))).toEqual([14, "00".repeat(cut)]);
    }
    expect(ask(number, command, "00".repeat(size + 1))[0]).toBe(22);
    expect(ask(number, command, "00".repeat(2 * size))[0]).toBe(22);
    expect(suspends).toEqual([]);
  });

  const several: [name: string, command: number, size: number][] = [
    ["map_grant_ref", 0, 32],
    ["unmap_grant_ref", 1, 24],
    ["copy", 5, 40],
  ];
  it.each(several)("%s (%i) takes any number of structures of %i bytes", (_name, command, size) => {
    const { ask } = rig();
    expect(ask(GRANT, command, "")).toEqual([0, ""]);
    expect(ask(GRANT, command, "00".repeat(3 * size))[0]).toBe(0);
    expect(ask(GRANT, command, "00".repeat(3 * size - 1))).toEqual([14, "00".repeat(3 * size - 1)]);
  });
});

describe("the guest's own table", () => {
  const setup = (dom: number, frames: number, status: number): string =>
    `${u16(dom)}a5a5${u32(frames)}${u16(status)}5a5a5a5a5a5a${ADDRESS}`;

  it("setup_table and query_size", () => {
    const { ask } = rig();
    const size = (dom: number) => `${u16(dom)}a5a5${u32(0x11111111)}${u32(0x22222222)}777755aa`;
    const answer = (dom: number, frames: number) =>
      hex(`${u16(dom)} a5a5 ${u32(frames)} 40000000 0000 55aa`);
    expect(ask(GRANT, 6, size(SELF))).toEqual([0, answer(SELF, 1)]);
    expect(ask(GRANT, 2, setup(SELF, 64, 0x7777))).toEqual([0, setup(SELF, 64, 0)]);
    expect(ask(GRANT, 6, size(1))).toEqual([0, answer(1, 64)]);
    expect(ask(GRANT, 2, setup(1, 65, 0))).toEqual([0, setup(1, 65, -1)]);
    expect(ask(GRANT, 2, setup(1, 0xffffffff, 0))).toEqual([0, setup(1, 0xffffffff, -1)]);
    for (const [dom, status] of [
      [0, -8],
      [2, -8],
      [9, -2],
    ] as const) {
      expect(ask(GRANT, 2, setup(dom, 1, 0))).toEqual([0, setup(dom, 1, status)]);
      expect(ask(GRANT, 6, size(dom))).toEqual([
        0,
        `${u16(dom)}a5a51111111122222222${u16(status)}55aa`,
      ]);
    }
  });

  it("set_version and get_version", () => {
    const { ask, guest } = rig();
    expect(ask(GRANT, 10, "f07f a5a5 77777777")).toEqual([0, "f07fa5a501000000"]);
    expect(ask(GRANT, 8, "03000000")).toEqual([22, "01000000"]);
    guest.grant([[8, { flags: 1, domid: 0, frame: 5 }]]);
    guest.table.pin(8, false);
    expect(ask(GRANT, 8, "02000000")).toEqual([16, "01000000"]);
    guest.table.unpin(8, false);
    expect(ask(GRANT, 8, "02000000")).toEqual([0, "02000000"]);
    expect(ask(GRANT, 8, "02000000")).toEqual([0, "02000000"]);
    expect(ask(GRANT, 10, "0100 a5a5 77777777")).toEqual([0, "0100a5a502000000"]);
    expect(ask(GRANT, 10, "0200 a5a5 77777777")).toEqual([1, "0200a5a577777777"]);
    expect(ask(GRANT, 10, "0900 a5a5 77777777")).toEqual([3, "0900a5a577777777"]);
  });

  it("get_status_frames", () => {
    const { ask } = rig();
    const frames = (count: number, status: number) => `${u32(count)}f07f${u16(status)}${ADDRESS}`;
    expect(ask(GRANT, 9, frames(1, 0x7777))).toEqual([0, frames(1, -1)]);
    ask(GRANT, 8, "02000000");
    expect(ask(GRANT, 9, frames(1, 0x7777))).toEqual([0, frames(1, 0)]);
    expect(ask(GRANT, 9, frames(2, 0x7777))).toEqual([0, frames(2, -1)]);
    expect(ask(GRANT, 9, `010000000000 7777 ${ADDRESS}`)[1]).toBe(`010000000000f8ff${ADDRESS}`);
  });
});

describe("grants of others", () => {
  const maps: [what: string, flags: number, ref: number, dom: number, status: number][] = [
    ["no kind of mapping", 4, 8, 0, -3],
    ["domain 0 grants nothing", 2, 8, 0, -1],
    ["another guest is out of reach", 2, 8, 2, -1],
    ["its own table", 2, 8, 1, -1],
    ["reference out of range", 2, 512, 0, -3],
    ["highest reference", 6, 0xffffffff, 0, -3],
    ["no such domain", 2, 8, 9, -2],
    ["itself by another name, as in Xen", 2, 8, SELF, -2],
  ];
  it.each(maps)("map: %s", (_what, flags, ref, dom, status) => {
    const { ask } = rig();
    const given = mapRef(flags, ref, dom, 0x7777);
    expect(ask(GRANT, 0, given)).toEqual([0, mapRef(flags, ref, dom, status)]);
  });

  it("unmap: the guest has no handle", () => {
    const { ask, guest } = rig();
    guest.grant([[8, { flags: 1, domid: 0, frame: 5 }]]);
    guest.map(8);
    expect(ask(GRANT, 1, unmapRef(0, 0))).toEqual([0, unmapRef(0, -4)]);
    expect(guest.table.usesOf(8).readers).toBe(1);
  });

  const copies: [string, from: string, to: string, len: number, flags: number, status: number][] = [
    ["from a grant of domain 0", copyPtr(8, 0, 0), copyPtr(3, SELF, 0), 8, 1, -1],
    ["from another guest", copyPtr(8, 2, 0), copyPtr(3, SELF, 0), 8, 1, -1],
    ["into a grant out of range", copyPtr(3, SELF, 0), copyPtr(512, 0, 0), 8, 2, -3],
    ["source first", copyPtr(8, 0, 0), copyPtr(512, 0, 0), 8, 3, -1],
    ["no such source domain", copyPtr(8, 9, 0), copyPtr(3, SELF, 0), 8, 1, -2],
    ["no such destination domain", copyPtr(8, 0, 0), copyPtr(3, 9, 0), 8, 3, -2],
    ["another domain's frame", copyPtr(8, 2, 0), copyPtr(3, SELF, 0), 8, 0, -8],
    ["into another domain's frame", copyPtr(8, SELF, 0), copyPtr(3, 0, 0), 8, 0, -8],
    ["between frames of its own", copyPtr(8, SELF, 0), copyPtr(3, SELF, 0), 8, 0, -1],
    ["nothing", copyPtr(8, 9, 0xffff), copyPtr(3, 9, 0xffff), 0, 0, 0],
  ];
  it.each(copies)("copy: %s", (_what, from, to, len, flags, status) => {
    const { ask } = rig();
    expect(ask(GRANT, 5, copyOp(from, to, len, flags, 0x7777))).toEqual([
      0,
      copyOp(from, to, len, flags, status),
    ]);
  });

  it("transfer is not supported, as in a Xen that has it switched off", () => {
    const { ask } = rig();
    expect(ask(GRANT, 4, "00".repeat(24))).toEqual([95, "00".repeat(24)]);
  });
});

describe("event channels", () => {
  it("alloc_unbound, status, bind_interdomain, send, close", () => {
    const { ask, events } = rig();
    expect(ask(EVENT, 6, "f07f 0000 77777777")).toEqual([0, "f07f000001000000"]);
    expect(ask(EVENT, 6, "0200 0000 77777777")).toEqual([1, "0200000077777777"]);
    expect(ask(EVENT, 6, "0900 0000 77777777")[0]).toBe(3);
    const status = (port: number) => `f07fa5a5${u32(port)}777777777777777777775a5a77777777`;
    expect(ask(EVENT, 5, status(1))).toEqual([
      0,
      hex(`f07fa5a5 01000000 01000000 00000000 0000 5a5a 00000000`),
    ]);
    const backend = events.bindInterdomain(0, 1, 1);
    let turns = 0;
    events.bindHandler(0, backend, () => turns++);
    events.eoi(0, backend, false);
    expect(ask(EVENT, 5, status(1))[1]).toBe(
      hex(`f07fa5a5 01000000 02000000 00000000 0000 5a5a ${u32(backend)}`),
    );
    expect(ask(EVENT, 5, status(99))[1]).toBe(
      hex(`f07fa5a5 63000000 00000000 00000000 0000 5a5a 00000000`),
    );
    expect(ask(EVENT, 5, "0900a5a5".padEnd(48, "0"))[0]).toBe(3);
    expect(ask(EVENT, 4, "01000000")).toEqual([0, "01000000"]);
    expect(turns).toBe(2);
    expect(ask(EVENT, 4, "63000000")[0]).toBe(22);

    const offered = events.allocUnbound(0, SELF, 1);
    expect(ask(EVENT, 0, `0000a5a5${u32(offered)}77777777`)).toEqual([
      0,
      `0000a5a5${u32(offered)}02000000`,
    ]);
    expect(ask(EVENT, 0, `0000a5a5${u32(offered)}77777777`)).toEqual([
      22,
      `0000a5a5${u32(offered)}77777777`,
    ]);
    expect(ask(EVENT, 3, "02000000")[0]).toBe(0);
    expect(ask(EVENT, 3, "02000000")[0]).toBe(22);
  });

  it("unmask delivers", () => {
    const { ask, events } = rig();
    const port = events.allocUnbound(2, SELF, 1);
    const told: number[] = [];
    events.detach(1);
    events.attach(1, (p) => told.push(p));
    const bound = events.bindInterdomain(1, 2, port);
    events.mask(1, bound);
    events.send(2, port);
    told.length = 0;
    expect(ask(EVENT, 9, u32(bound))[0]).toBe(0);
    expect(told).toEqual([bound]);
    expect(ask(EVENT, 9, u32(77))[0]).toBe(22);
  });
});

describe("suspend", () => {
  it("calls the hook, and answers what it says", () => {
    const willing = rig();
    expect(willing.ask(SCHED, 2, "02000000")).toEqual([0, "02000000"]);
    expect(willing.suspends).toEqual([1]);
    expect(rig(22).ask(SCHED, 2, "02000000")[0]).toBe(22);
  });

  it("other reasons to shut down are not for a NIC", () => {
    const { ask, suspends } = rig();
    for (const reason of [0, 1, 3, 4, 5, 0xffffffff])
      expect(ask(SCHED, 2, u32(reason))[0]).toBe(38);
    expect(suspends).toEqual([]);
  });
});
