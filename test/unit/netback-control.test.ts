import { describe, expect, test, vi } from "vitest";
import { ToeplitzHash } from "../../shared/net/toeplitz.ts";
import {
  CtrlStatus,
  CtrlType,
  HashAlgorithm,
  HashFlag,
  HashType,
} from "../../shared/xen/control.ts";
import { FakeGuest } from "../support/fake-guest.ts";
import { PAGE } from "../support/fake-guest-memory.ts";
import { settle } from "../support/fake-host.ts";
import { buildPacket, frameOf } from "../support/packets.ts";

/** The key of the published verification vectors. */
const KEY = Uint8Array.from(
  Buffer.from(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa",
    "hex",
  ),
);

const rig = (queues = 4): FakeGuest => FakeGuest.connected({ queues, control: true });

function words(...values: number[]): Uint8Array {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value, i * 4);
  return bytes;
}

/** Sends one request with numbers only. Returns its answer. */
function ask(guest: FakeGuest, type: number, data0 = 0, data1 = 0, data2 = 0) {
  guest.ask({ id: 7, type, data0, data1, data2 });
  const [answer, ...more] = guest.answers();
  expect(more).toEqual([]);
  expect(answer).toMatchObject({ id: 7, type });
  expect(guest.memory.pushes.live).toBe(0);
  return answer!;
}

/** Like `ask`, with bytes in a pushed page. */
function askWith(guest: FakeGuest, type: number, bytes: Uint8Array, data1: number, data2 = 0) {
  const gref = guest.buffer(bytes);
  if (bytes.length > 0) guest.memory.push(gref * PAGE, bytes.length);
  return ask(guest, type, gref, data1, data2);
}

function toeplitz(guest: FakeGuest, flags = 15): void {
  ask(guest, CtrlType.SET_HASH_ALGORITHM, HashAlgorithm.TOEPLITZ);
  expect(ask(guest, CtrlType.SET_HASH_FLAGS, flags).status).toBe(CtrlStatus.SUCCESS);
  expect(askWith(guest, CtrlType.SET_HASH_KEY, KEY, 40).status).toBe(CtrlStatus.SUCCESS);
}

test("an algorithm comes before its flags", () => {
  const guest = rig();
  expect(ask(guest, CtrlType.GET_HASH_FLAGS).status).toBe(CtrlStatus.NOT_SUPPORTED);
  expect(ask(guest, CtrlType.SET_HASH_FLAGS, 3).status).toBe(CtrlStatus.INVALID_PARAMETER);
  expect(ask(guest, CtrlType.SET_HASH_ALGORITHM, 2).status).toBe(CtrlStatus.INVALID_PARAMETER);
  expect(ask(guest, CtrlType.SET_HASH_ALGORITHM, 1).status).toBe(CtrlStatus.SUCCESS);
  expect(ask(guest, CtrlType.GET_HASH_FLAGS)).toMatchObject({ status: 0, data: 15 });
  expect(ask(guest, CtrlType.SET_HASH_FLAGS, 16).status).toBe(CtrlStatus.INVALID_PARAMETER);
  expect(ask(guest, CtrlType.SET_HASH_FLAGS, 15).status).toBe(CtrlStatus.SUCCESS);
});

test("sizes: 128 entries, 40 bytes of key, and not one more", () => {
  const guest = rig();
  expect(ask(guest, CtrlType.GET_HASH_MAPPING_SIZE)).toMatchObject({ status: 0, data: 128 });
  expect(ask(guest, CtrlType.SET_HASH_MAPPING_SIZE, 129).status).toBe(2);
  expect(ask(guest, CtrlType.SET_HASH_MAPPING_SIZE, 128).status).toBe(0);
  expect(askWith(guest, CtrlType.SET_HASH_KEY, new Uint8Array(41), 41).status).toBe(2);
  expect(askWith(guest, CtrlType.SET_HASH_KEY, KEY, 0).status).toBe(0);
});

test.each([
  CtrlType.INVALID,
  CtrlType.GET_GREF_MAPPING_SIZE,
  CtrlType.ADD_GREF_MAPPING,
  CtrlType.DEL_GREF_MAPPING,
  11,
  65535,
])("type %i is not supported", (type) => {
  expect(ask(rig(), type).status).toBe(CtrlStatus.NOT_SUPPORTED);
});

test("XSA-270 a mapping outside the table, in whatever arithmetic, is refused and reads nothing", () => {
  const guest = rig();
  const table = [
    [0, 1, 0], // no table at all
    [4, 5, 0],
    [4, 1, 4],
    [4, 2, 3],
    [4, 0xffff_ffff, 5],
    [4, 1, 0xffff_ffff],
    [4, 0xffff_ffff, 0xffff_ffff],
    [4, 0x4000_0000, 0], // times four bytes gives zero in 32 bits
    [4, 0x8000_0000, 0x8000_0000],
  ];
  for (const [size, count, offset] of table) {
    ask(guest, CtrlType.SET_HASH_MAPPING_SIZE, size);
    const gref = guest.buffer(words(0, 0, 0, 0));
    const { status } = ask(guest, CtrlType.SET_HASH_MAPPING, gref, count, offset);
    expect([size, count, offset, status]).toEqual([
      size,
      count,
      offset,
      CtrlStatus.INVALID_PARAMETER,
    ]);
  }
  expect(guest.memory.reads).toEqual([]);
  expect(guest.fatals).toEqual([]);
  ask(guest, CtrlType.SET_HASH_MAPPING_SIZE, 4);
  expect(askWith(guest, CtrlType.SET_HASH_MAPPING, words(1), 1, 3).status).toBe(0);
  expect(ask(guest, CtrlType.SET_HASH_MAPPING, 0, 0, 4).status).toBe(0);
});

test("a mapping to a queue that is not there is refused whole", () => {
  const guest = rig(2);
  toeplitz(guest);
  ask(guest, CtrlType.SET_HASH_MAPPING_SIZE, 2);
  askWith(guest, CtrlType.SET_HASH_MAPPING, words(1, 1), 2);
  expect(askWith(guest, CtrlType.SET_HASH_MAPPING, words(0, 2), 2).status).toBe(2);
  for (const q of [0, 1]) guest.postRx(16, q);
  for (let i = 0; i < 8; i++) {
    guest.netback.deliver(frameOf(buildPacket({ sourcePort: i + 1 }).bytes));
  }
  guest.netback.flush();
  expect([0, 1].map((q) => guest.received(q).length)).toEqual([0, 8]);
});

test("what was not pushed is read under a pin; refused reads are answered", async () => {
  const guest = rig();
  ask(guest, CtrlType.SET_HASH_MAPPING_SIZE, 4);
  const good = guest.buffer(words(3, 2, 1, 0));
  guest.ask({ id: 1, type: CtrlType.SET_HASH_MAPPING, data0: good, data1: 4 });
  guest.ask({ id: 2, type: CtrlType.GET_HASH_MAPPING_SIZE });
  expect(guest.answers()).toEqual([]);
  expect(guest.inUse).toContain(good);
  guest.memory.answerNow();
  await settle();
  await settle();
  expect(guest.answers().map((a) => [a.id, a.status])).toEqual([
    [1, 0],
    [2, 0],
  ]);
  expect(guest.inUse).not.toContain(good);
  guest.ask({ id: 3, type: CtrlType.SET_HASH_MAPPING, data0: good, data1: 4 });
  guest.memory.reads.pop()!.refuse();
  await settle();
  await settle();
  expect(guest.answers().map((a) => [a.id, a.status])).toEqual([[3, 2]]);
  expect(ask(guest, CtrlType.SET_HASH_KEY, 9999, 40).status).toBe(CtrlStatus.INVALID_PARAMETER);
});

test("disconnecting while a request reads frees its page", async () => {
  const guest = rig();
  guest.ask({ id: 1, type: CtrlType.SET_HASH_KEY, data0: guest.buffer(KEY), data1: 40 });
  guest.netback.disconnect();
  await settle();
  expect(guest.inUse).toEqual([]);
  expect(guest.answers()).toEqual([]);
});

describe("hashes", () => {
  // From the published verification suite: 66.9.149.187:2794 to 161.142.100.80:1766, and the same
  // ports with 3ffe:2501:200:1fff::7 and 3ffe:2501:200:3::1.
  const V4 = Buffer.from("420995bba18e6450", "hex");
  const V6 = Buffer.from("3ffe250102001fff00000000000000073ffe2501020000030000000000000001", "hex");
  const vector = (protocol: 6 | 17, v6 = false) => {
    const built = buildPacket({ v6, protocol, sourcePort: 2794 });
    built.bytes.set(v6 ? V6 : V4, built.l3 + (v6 ? 8 : 12));
    Buffer.from(built.bytes.buffer).writeUInt16BE(1766, built.l4 + 2);
    return built.bytes;
  };

  const toeplitzHash = (type: HashType, value: number) => ({ type, algorithm: 1, value });

  test.each([
    ["TCP", false, 6, 15, toeplitzHash(HashType.IPV4_TCP, 0x51ccc178)],
    ["UDP, which has no type", false, 17, 15, toeplitzHash(HashType.IPV4, 0x323e8fc2)],
    ["TCP by addresses", false, 6, HashFlag.IPV4, toeplitzHash(HashType.IPV4, 0x323e8fc2)],
    ["TCP that was not asked for", false, 6, HashFlag.IPV6, undefined],
    ["TCP over IPv6", true, 6, 15, toeplitzHash(HashType.IPV6_TCP, 0x40207d3d)],
    ["UDP over IPv6", true, 17, 15, toeplitzHash(HashType.IPV6, 0x2cc18cd5)],
    ["TCP over IPv6 by addresses", true, 6, HashFlag.IPV6, toeplitzHash(HashType.IPV6, 0x2cc18cd5)],
    ["TCP over IPv6 that was not asked for", true, 6, HashFlag.IPV4, undefined],
  ] as const)("%s", (_name, v6, protocol, flags, hash) => {
    const guest = rig(1);
    toeplitz(guest, flags);
    guest.postRx(2);
    guest.netback.deliver(frameOf(vector(protocol, v6)));
    guest.netback.flush();
    const [packet] = guest.received();
    expect(packet!.hash).toEqual(hash);
    expect(packet!.bytes).toEqual(vector(protocol, v6));
    expect(packet!.slots).toBe(hash === undefined ? 1 : 2);
  });

  test("a ring full of keys costs one, when the next frame comes", () => {
    const guest = rig(1);
    toeplitz(guest);
    const taken = vi.spyOn(ToeplitzHash.prototype, "setKey");
    for (let i = 0; i < 128; i++) ask(guest, CtrlType.SET_HASH_KEY, 0, 0);
    guest.postRx(4);
    for (let i = 0; i < 2; i++) guest.netback.deliver(frameOf(vector(6)));
    guest.netback.flush();
    // A key of zeros hashes everything to zero.
    expect(guest.received().map(({ hash }) => hash?.value)).toEqual([0, 0]);
    expect(taken).toHaveBeenCalledTimes(1);
    taken.mockRestore();
  });

  test("choose the queue by the table, or by their remainder", () => {
    for (const [mapping, queue] of [
      [[], 0x51ccc178 % 4],
      [[0, 3, 1, 2, 2], [0, 3, 1, 2, 2][0x51ccc178 % 5]],
    ] as const) {
      const guest = rig(4);
      toeplitz(guest);
      ask(guest, CtrlType.SET_HASH_MAPPING_SIZE, mapping.length);
      askWith(guest, CtrlType.SET_HASH_MAPPING, words(...mapping), mapping.length);
      for (let q = 0; q < 4; q++) guest.postRx(4, q);
      guest.netback.deliver(frameOf(vector(6)));
      guest.netback.flush();
      expect([0, 1, 2, 3].filter((q) => guest.received(q).length > 0)).toEqual([queue]);
    }
  });
});
