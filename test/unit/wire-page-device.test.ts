/**
 * Promises of the protocol page, tested on a device by a frontend that is not ours. Titles begin
 * with the paragraph of the page that was found missing (P) or wrong (W).
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../device/index.ts";
import { SqDirection } from "../../shared/ena/admin.ts";
import { intrReg } from "../../shared/ena/io.ts";
import { DevSts, Register } from "../../shared/ena/registers.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { CloseCode, Limits } from "../../shared/wire/protocol.ts";
import { GNTTAB_NR_RESERVED_ENTRIES, GrantType } from "../../shared/xen/grant.ts";
import { NetifStatus, RX_SLOT_SIZE, TX_SLOT_SIZE } from "../../shared/xen/netif.ts";
import { XenbusState } from "../../shared/xen/xenbus.ts";
import { XsType, xsMessage, xsStrings } from "../../shared/xen/xenstore.ts";
import { testDevice } from "../support/device-server.ts";
import { grantRecords } from "../support/guest-grants.ts";
import { BASE, broadcast, RawEna } from "../support/raw-ena.ts";
import { type Closing, column, mmio, RawFrontend } from "../support/raw-frontend.ts";
import { RawSocket, upgradeRequest, WsOpcode, wsFrame } from "../support/raw-socket.ts";
import { RawXen, VIF } from "../support/raw-xen.ts";
import { allPorts } from "../support/status.ts";

const PAGE = 4096;
let device: Device;
let port: number;
let names = 0;
const name = (): string => `raw${++names}`;
const join = (hello: object = {}): Promise<RawFrontend> => RawFrontend.join(port, name(), hello);

/** How the device ends the connection after these messages. Throws when it stays open. */
async function endOf(raw: RawFrontend): Promise<Closing> {
  if (await raw.flushed()) throw new Error("the connection still stands");
  return await raw.closed;
}

beforeAll(async () => {
  device = await testDevice({ maxQueues: 32 });
  ({ port } = device);
});
afterAll(async () => await device.close());

describe("what may wait: a driver that sleeps until its interrupt", () => {
  test.each([
    { what: "no delay set", delays: [0, 0], late: 0 },
    { what: "the 20 and 64 us of stock drivers", delays: [20, 64], late: 0 },
    { what: "a Tx delay of 20 ms", delays: [0, 20_000], late: 1 },
  ])("gets its Tx completion with an interrupt: $what", async ({ delays, late }) => {
    const nic = name();
    const { ena, tx } = await RawEna.startWithQueues(port, nic);
    ena.write32(tx.unmask, intrReg.pack(delays[0]!, delays[1]!, 1));
    ena.transmit(tx, broadcast());
    await ena.raw.until("the interrupt", ([told, vector]) => told === "interrupt" && vector === 1);
    expect(ena.completed(tx)).toEqual([0]);
    const { link } = device.status().nics.find((each) => each.name === nic)!;
    // A heartbeat may have been the next message.
    expect(link.lateBatches).toBeLessThanOrEqual(late);
    ena.raw.ws.terminate();
  });
});

describe("close codes", () => {
  test.each([
    ["a text message", wsFrame(Buffer.from("[]"), { opcode: WsOpcode.TEXT }), 1003, "binary"],
    ["a frame without a mask", wsFrame(Buffer.of(0x90), { masked: false }), 1002, "RFC 6455"],
    ["a message over 1 MiB", wsFrame(Buffer.of(0), { declared: 1n << 21n }), 1009, "1048576"],
    ["text that is no UTF-8", wsFrame(Buffer.of(0xff), { opcode: WsOpcode.TEXT }), 1007, "UTF-8"],
  ])("page-W1 %s ends with a code of RFC 6455, and a word", async (_what, bytes, code, word) => {
    const raw = await RawSocket.upgraded(port);
    raw.write(bytes);
    expect(await raw.closeCode()).toBe(code);
    expect(raw.received.toString("latin1")).toContain(word);
  });

  test("page-W1 an unmasked frame in the segment of the request is no exception", async () => {
    const raw = await RawSocket.connect(port);
    raw.write(
      Buffer.concat([
        Buffer.from(upgradeRequest(port)),
        wsFrame(Buffer.of(0x90), { masked: false }),
      ]),
    );
    await raw.response();
    expect(await raw.closeCode()).toBe(1002);
    expect(raw.received.toString("latin1")).toContain("RFC 6455");
  });

  test("page-W8 33 heartbeats at once are a flood: 4003", async () => {
    const raw = await join();
    raw.batch(...Array.from({ length: 33 }, (_, i) => [Op.HEARTBEAT, i + 1, 0]));
    expect(await endOf(raw)).toEqual({
      code: CloseCode.LIMIT,
      reason: "heartbeat: too many in a second",
    });
  });

  test("page-W6 a silent socket is closed with 4004, before its time for hello is over", async () => {
    const raw = await RawFrontend.connect(port, { alive: false });
    expect(await raw.closed).toEqual({ code: CloseCode.DEAD_PEER, reason: expect.any(String) });
  });
});

describe("the handshake", () => {
  test.each<[string, unknown[]]>([
    ["window", [Op.WINDOW, BASE, PAGE]],
    ["push", column(Op.PUSH, [{ address: BASE, bytes: Buffer.alloc(4) }])],
    ["mmio_write", mmio(Register.DEV_CTL, 0)],
    ["mmio_read", [Op.MMIO_READ, 1, 0, 0, 4]],
    ["fault", [Op.FAULT, 0, "CODE", "text", 0, 0]],
  ])("page-W4 %s in the batch of hello comes before the welcome", async (what, transaction) => {
    const raw = await RawFrontend.connect(port);
    const hello = { version: 1, personality: "ena", name: name(), instance: "raw" };
    raw.batch([Op.HELLO, hello], transaction);
    expect(await endOf(raw)).toEqual({
      code: CloseCode.PROTOCOL,
      reason: `${what}: before welcome`,
    });
  });

  test.each<[string, unknown[]]>([
    ["xenstore", [Op.XENSTORE, Buffer.alloc(16)]],
    ["event", [Op.EVENT, 1]],
    ["grant", [Op.GRANT, 1, Buffer.alloc(12)]],
    ["hypercall", [Op.HYPERCALL, 1, 32, 6, Buffer.alloc(8)]],
  ])("page-W4 %s in the batch of a guest's hello as well", async (what, transaction) => {
    const raw = await RawFrontend.connect(port);
    const hello = { version: 1, personality: "xen", name: name(), instance: "raw" };
    raw.batch([Op.HELLO, hello], transaction);
    expect((await endOf(raw)).reason).toBe(`${what}: before welcome`);
  });

  test("page-W4 heartbeat and progress may come with hello", async () => {
    const raw = await RawFrontend.connect(port);
    const hello = { version: 1, personality: "ena", name: name(), instance: "raw" };
    raw.batch([Op.HEARTBEAT, 1, 0], [Op.HELLO, hello], [Op.HEARTBEAT, 2, 0], [Op.PROGRESS, 0]);
    await raw.until("welcome", ([what]) => what === "welcome");
    expect(await raw.survived()).toBe(true);
    await raw.end();
  });

  test.each([
    ["name", { name: "-dash" }],
    ["name", { name: "_under" }],
    ["name", { name: "a".repeat(64) }],
    ["name", { name: "" }],
    ["mtu", { mtu: 67 }],
    ["mtu", { mtu: 65_536 }],
    ["mac", { mac: "01:00:5e:00:00:01" }],
    ["mac", { mac: "00:00:00:00:00:00" }],
    ["queues", { queues: 0 }],
    ["queues", { queues: 129 }],
  ])("page-P7 hello with a bad %s is refused: %j", async (field, more) => {
    const raw = await RawFrontend.connect(port);
    raw.hello(name(), more);
    const { code, reason } = await endOf(raw);
    expect(code).toBe(CloseCode.REFUSED);
    expect(reason).toMatch(new RegExp(`^hello: ${field}: `));
  });

  test.each([
    ["a digit first", { name: "9-._lives" }],
    ["63 characters", { name: "a".repeat(63) }],
    ["the smallest MTU", { mtu: 68 }],
    ["the largest MTU", { mtu: 65_535 }],
    ["128 queues", { queues: 128 }],
  ])("page-P7 hello with %s is welcome", async (_what, more) => {
    const raw = await join(more);
    const welcome = raw.heard.told.find(([what]) => what === "welcome")?.[1];
    // The frontend gets the device's own limits.
    expect(welcome).toMatchObject({ queues: 32, maxMtu: 9216 });
    await raw.end();
  });
});

describe("addresses and tags", () => {
  test("page-W2 a record type that no table has is data like any other", async () => {
    const raw = await join();
    raw.batch(
      [Op.WINDOW, BASE, PAGE],
      column(Op.WRITE, [{ address: BASE, bytes: Buffer.alloc(4), type: 99 }]),
      column(Op.PUSH, [{ address: BASE + PAGE, bytes: Buffer.alloc(4), type: 0xffff }]),
    );
    expect(await raw.survived()).toBe(true);
    await raw.end();
  });

  test.each([
    [2 ** 48 - 2, 4],
    [2 ** 48 - 1, 2],
    [2 ** 48 - 131_071, 131_072],
  ])("page-W7 a push from %d that ends %d bytes on leaves 48 bits", async (address, length) => {
    for (const op of [Op.PUSH, Op.WRITE]) {
      const raw = await join();
      raw.batch(column(op, [{ address, bytes: Buffer.alloc(length) }]));
      const { code, reason } = await endOf(raw);
      expect(code).toBe(CloseCode.PROTOCOL);
      expect(reason).toContain(`record 0: space 0 address ${address}+${length} is out of bounds`);
    }
  });

  test("page-W7 a push of the last bytes of 48 bits is a push", async () => {
    const raw = await join();
    raw.batch(column(Op.PUSH, [{ address: 2 ** 48 - 4, bytes: Buffer.alloc(4) }]));
    expect(await raw.survived()).toBe(true);
    await raw.end();
  });

  test("page-W5 the same mmio_read tag twice is refused, in one batch and in two", async () => {
    for (const together of [true, false]) {
      const raw = await join();
      const read = [Op.MMIO_READ, 77, 0, Register.DEV_STS, 4];
      if (together) raw.batch(read, read);
      else {
        raw.batch(read);
        await raw.until("the answer", ([what]) => what === "mmioReadReply");
        raw.batch(read);
      }
      expect(await endOf(raw)).toEqual({
        code: CloseCode.PROTOCOL,
        reason: "mmio_read: tag 77 was used before",
      });
    }
  });

  test("page-W5 the same hypercall tag twice is refused; a read may have that tag", async () => {
    const guest = await RawXen.start(port, name());
    const call = [Op.HYPERCALL, 900, 32, 6, Buffer.alloc(8)];
    guest.raw.batch(call, call);
    expect((await endOf(guest.raw)).reason).toBe("hypercall: tag 900 was used before");
  });

  test("page-P8 a window begins at any byte, and has any length", async () => {
    const raw = await join();
    raw.batch(
      [Op.WINDOW, 0x1001, 7],
      [Op.WINDOW, 0x1008, 1],
      column(Op.WRITE, [{ address: 0x1001, bytes: Buffer.alloc(7) }]),
      [Op.END_WINDOW, 0x1001],
    );
    expect(await raw.survived()).toBe(true);
    await raw.end();
  });
});

describe("ENA", () => {
  test("page-P4 a register is 4 aligned bytes of BAR 0; the rest is a note and changes nothing", async () => {
    const raw = await join();
    const ena = new RawEna(raw);
    await ena.reset();
    const reset = Buffer.from([1]);
    raw.batch(
      column(Op.MMIO_WRITE, [{ address: Register.DEV_CTL, bytes: reset, space: 0 }]),
      column(Op.MMIO_WRITE, [{ address: Register.DEV_CTL + 1, bytes: Buffer.alloc(4), space: 0 }]),
      column(Op.MMIO_WRITE, [{ address: Register.DEV_CTL, bytes: Buffer.alloc(4, 1), space: 1 }]),
    );
    expect((await raw.read32(Register.DEV_STS)) & DevSts.RESET_IN_PROGRESS).toBe(0);
    expect(raw.faults).toEqual(Array(3).fill("MMIO_BAD_ACCESS"));
    expect(Buffer.from((await raw.read(0x7000_0000, 4))!)).toEqual(Buffer.alloc(4));
    await raw.end();
  });

  test("page-P5 256 reads are outstanding at most, answered in any order", async () => {
    const { ena, tx } = await RawEna.startWithQueues(port, name(), false);
    const { raw } = ena;
    const tags: number[] = [];
    const answers = new Map<number, Uint8Array>();
    const answer = raw.onRead;
    raw.onRead = (address, length, tag) => {
      const bytes = answer(address, length, tag);
      tags.push(tag);
      if (bytes !== undefined && bytes !== "refuse") answers.set(tag, Uint8Array.from(bytes));
      return undefined;
    };
    // The descriptors are not pushed, so the device reads them, and the queue waits meanwhile.
    raw.batch(mmio(tx.doorbell, 1));
    await raw.until("a read", () => tags.length > 0);
    expect(await raw.survived()).toBe(true);
    expect(tags.length).toBeLessThanOrEqual(Limits.READS);
    expect(new Set(tags).size).toBe(tags.length);
    for (const tag of tags.reverse()) {
      raw.batch([Op.READ_REPLY, tag, 0, Buffer.from(answers.get(tag)!)]);
    }
    expect(await raw.survived()).toBe(true);
    // The tag was answered, so it is not valid any more.
    raw.batch([Op.READ_REPLY, tags[0]!, 0, Buffer.alloc(4)]);
    expect((await endOf(raw)).reason).toContain("was never used or is answered already");
  });
});

test("page-P6 a peer that reports no progress gets no more frames, and keeps its connection", async () => {
  const deaf = await RawFrontend.connect(port, { alive: false });
  const called = name();
  deaf.hello(called);
  await deaf.until("welcome", ([what]) => what === "welcome");
  const ena = new RawEna(deaf);
  await ena.renew();
  ena.refill(await ena.createQueue(SqDirection.RX), 32);
  // Answers are never held back, but they count as bytes in flight.
  for (let tag = 0; tag < 600; tag++) deaf.batch([Op.MMIO_READ, 10_000 + tag, 0, 0, 256]);
  await deaf.until("all", ([what, tag]) => what === "mmioReadReply" && tag === 10_599);

  const sender = await RawEna.startWithQueues(port, name());
  const frame = new Uint8Array(60);
  frame.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 8, 8, 0x88, 0xb6]);
  sender.ena.transmit(sender.tx, frame);
  expect(await sender.ena.raw.survived()).toBe(true);
  const dropped = allPorts(device.status()).find((each) => each.name === called)?.out.dropped;
  expect(dropped).toEqual({ link_backlog: 1 });
  expect(await deaf.survived()).toBe(true);
  await Promise.all([deaf.end(), sender.ena.raw.end()]);
});

describe("Xen", () => {
  test("page-P1 the frame of a ring's grant is the bus address of its window, divided by 4096", async () => {
    const guest = await RawXen.start(port, name());
    guest.port = await guest.allocUnbound();
    guest.tx = guest.ring(8, TX_SLOT_SIZE);
    guest.rx = guest.ring(9, RX_SLOT_SIZE);
    // The window of reference 9 is at 9 * 4096; its grant names a frame without a window.
    const flags = GrantType.PERMIT_ACCESS;
    guest.raw.batch([Op.GRANT, 1, grantRecords([[9, { flags, domid: 0, frame: 0x1234 }]])]);
    await guest.offer(guest.keys);
    await guest.until(XenbusState.CLOSING);
    const told = guest.raw.heard.told.find(([what]) => what === "fault");
    expect(told?.[3]).toContain("names a page that is no coherent memory");
    await guest.raw.end();
  });

  test("page-P2 the backend is domain 0, the guest reads its own id, and has 32,768 references", async () => {
    const guest = await RawXen.start(port, name());
    expect(guest.domid).toBeGreaterThan(0);
    expect(await guest.read(`${VIF}/backend-id`)).toBe("0");
    expect(await guest.allocUnbound()).toBeGreaterThan(0);
    const record = (reference: number): unknown[] => [
      Op.GRANT,
      1,
      grantRecords([[reference, { flags: 1, domid: 0, frame: 5 }]]),
    ];
    guest.raw.batch(record(GNTTAB_NR_RESERVED_ENTRIES), record(32_767));
    expect(await guest.read("domid")).toBe(String(guest.domid));
    guest.raw.batch(record(32_768));
    const { code, reason } = await endOf(guest.raw);
    expect(code).toBe(CloseCode.PROTOCOL);
    expect(reason).toContain("reference 32768, the table ends at 32768");
    const again = await RawXen.start(port, name());
    expect(again.domid).not.toBe(guest.domid);
    await again.raw.end();
  });

  test("attack-S2 20 requests to the store in one batch are answered; one more ends the connection", async () => {
    const guest = await RawXen.start(port, name());
    const requests = (count: number): unknown[] =>
      Array.from({ length: count }, (_, i) => [
        Op.XENSTORE,
        Buffer.from(xsMessage(XsType.READ, 1000 + i, 0, xsStrings("domid"))),
      ]);
    guest.raw.batch(...requests(20));
    expect(await guest.answer(1019)).toBe(String(guest.domid));
    guest.raw.batch(...requests(20));
    expect(await guest.answer(1019)).toBe(String(guest.domid));
    guest.raw.batch(...requests(21));
    expect(await endOf(guest.raw)).toEqual({
      code: CloseCode.PROTOCOL,
      reason: "xenstore: more than 20 requests in one batch",
    });
  });

  test("page-P3 what is pushed before the backend is Connected is not kept: it is asked for", async () => {
    const guest = await RawXen.start(port, name());
    const frame = new Uint8Array(60).fill(7);
    frame.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 9, 9, 0x88, 0xb6]);
    const reads: number[] = [];
    const answer = guest.raw.onRead;
    guest.raw.onRead = (address, length, tag) => {
      reads.push(address);
      return answer(address, length, tag);
    };
    const reference = 20;
    guest.grant(reference, { readonly: true }).set(frame);
    const address = reference * PAGE;
    const push = column(Op.PUSH, [{ address, bytes: frame, space: 1 }]);
    guest.raw.batch(push);
    await guest.connect();
    const first = guest.transmit(reference, frame.length);
    expect(await guest.txStatus(first)).toBe(NetifStatus.OKAY);
    expect(reads).toEqual([address]);
    guest.raw.batch(push);
    expect(await guest.txStatus(guest.transmit(reference, frame.length))).toBe(NetifStatus.OKAY);
    expect(reads).toEqual([address]);
    await guest.raw.end();
  });
});
