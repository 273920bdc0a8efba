/** The back half of a shared ring, by exact words and writes. */
import { describe, expect, test } from "vitest";
import type { Window } from "../../device/dma/host-memory.ts";
import { BackRing, OVERRUN } from "../../device/xen/netback/back-ring.ts";
import type { NetbackContext } from "../../device/xen/netback/config.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { busAddress, RecordType, Space } from "../../shared/wire/records.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import { RX_SLOT_SIZE, TX_SLOT_SIZE } from "../../shared/xen/netif.ts";
import { RING_HEADER_SIZE, RingWord } from "../../shared/xen/ring.ts";

const REFERENCE = grantRef(9);
const FRAME = 0x50;
/** The ring's page is the second of its window. */
const BASE = 4096;
const { REQ_PROD, REQ_EVENT, RSP_PROD, RSP_EVENT } = RingWord;

interface Stage {
  readonly slotBytes?: number;
  readonly map?: number;
  readonly unmap?: number;
  readonly isWindow?: boolean;
  readonly words?: readonly [number, number][];
}

function stage({
  slotBytes = TX_SLOT_SIZE,
  map,
  unmap = 0,
  isWindow = true,
  words = [],
}: Stage = {}) {
  const bytes = new Uint8Array(3 * 4096);
  const view = viewOf(bytes);
  const window: Window = { address: busAddress(FRAME * 4096 - BASE), bytes, view };
  const set = (word: number, value: number): void => view.setUint32(BASE + word, value >>> 0, true);
  const get = (word: number): number => view.getUint32(BASE + word, true);
  for (const [word, value] of words) set(word, value);
  const writes: number[][] = [];
  let unmapped = 0;
  const page = { isGranted: true };
  const context = {
    grants: {
      map: () => map ?? { frame: FRAME },
      reaches: () => page.isGranted,
      unmap: () => {
        unmapped++;
        return unmap;
      },
    },
    host: {
      memory: {
        window: (address: number, length: number) =>
          isWindow && address === FRAME * 4096 && length === 4096 ? window : undefined,
        write: (
          space: number,
          address: number,
          type: number,
          src: Uint8Array,
          at: number,
          length: number,
        ) => {
          expect([space, src]).toEqual([Space.GRANT, bytes]);
          expect(at).toBe(BASE + (address % 4096));
          writes.push([address - 9 * 4096, length, type]);
        },
      },
    },
  } as unknown as NetbackContext;
  const make = () =>
    new BackRing(context, "tx-ring-ref", REFERENCE, slotBytes, RecordType.XEN_TX_RSP);
  return { make, set, get, page, writes: () => writes.splice(0), unmapped: () => unmapped };
}

const INDEX = RecordType.XEN_RING_INDEX;
const RSP = RecordType.XEN_TX_RSP;

describe("a page that is no ring", () => {
  test.each([
    ["cannot be mapped", { map: -3 }, "can't be mapped (GNTST -3)", 0],
    ["is no window", { isWindow: false }, "no coherent memory", 1],
    [
      "has too many requests",
      { words: [[REQ_PROD, 257]] as [number, number][] },
      "more requests than slots",
      1,
    ],
    [
      "has responses before requests",
      { words: [[RSP_PROD, 1]] as [number, number][] },
      "more requests than slots",
      1,
    ],
  ])("%s", (_, options, text, unmapped) => {
    const made = stage(options);
    expect(made.make).toThrow(text);
    expect(made.unmapped()).toBe(unmapped);
  });
});

test.each([
  [TX_SLOT_SIZE, 256],
  [RX_SLOT_SIZE, 256],
])(
  "slots of %i bytes: as many requests as fit, from where the guest left off",
  (slotBytes, size) => {
    const start = 2 ** 32 - 3;
    const made = stage({
      slotBytes,
      words: [
        [RSP_PROD, start],
        [REQ_PROD, start + size],
      ],
    });
    const ring = made.make();
    expect([ring.size, ring.look(), ring.reqProd]).toEqual([size, size, size - 3]);
    const slot = (i: number): number => BASE + RING_HEADER_SIZE + i * slotBytes;
    expect([0, 2, 3].map((ahead) => ring.at(ahead))).toEqual([slot(253), slot(255), slot(0)]);
    ring.consume(4);
    expect([ring.look(), ring.at(0)]).toEqual([size - 4, slot(1)]);
    expect([ring.respond(), ring.respond()]).toEqual([slot(253), slot(254)]);
  },
);

describe("requests", () => {
  test("are limited by what can be answered, and by what a ring can hold", () => {
    const { make, set } = stage();
    const ring = make();
    expect(ring.look()).toBe(0);
    set(REQ_PROD, 256);
    ring.consume(200);
    expect(ring.look()).toBe(56);
    set(REQ_PROD, 257);
    expect(ring.look()).toBe(OVERRUN);
    ring.respond();
    expect(ring.look()).toBe(57);
    set(REQ_PROD, 0);
    expect(ring.look()).toBe(OVERRUN);
  });

  test("no response without a request", () => {
    const { make, set } = stage();
    const ring = make();
    set(REQ_PROD, 2);
    expect(() => ring.respond()).toThrow("no request to answer");
    ring.consume(1);
    ring.respond();
    expect(() => ring.respond()).toThrow("no request to answer");
  });
});

describe("what is published", () => {
  test("responses, in two writes only across the end, then the index; an event when asked", () => {
    const { make, set, get, writes } = stage();
    const ring = make();
    const answer = (count: number): boolean => {
      ring.consume(count);
      for (let i = 0; i < count; i++) ring.respond();
      return ring.publish();
    };
    expect([ring.publish(), writes(), ring.takePosted()]).toEqual([false, [], false]);
    set(REQ_PROD, 256);
    set(RSP_EVENT, 1);
    const size = TX_SLOT_SIZE;
    expect(answer(250)).toBe(true);
    expect(writes()).toEqual([
      [RING_HEADER_SIZE, 250 * size, RSP],
      [RSP_PROD, 4, INDEX],
    ]);
    expect([get(RSP_PROD), ring.takePosted(), ring.takePosted()]).toEqual([250, true, false]);
    expect(answer(6)).toBe(false);
    expect(writes()).toEqual([
      [RING_HEADER_SIZE + 250 * size, 6 * size, RSP],
      [RSP_PROD, 4, INDEX],
    ]);
    set(REQ_PROD, 512);
    answer(200);
    writes();
    set(RSP_EVENT, 512);
    answer(55);
    writes();
    set(REQ_PROD, 520);
    expect(answer(4)).toBe(true);
    expect(writes()).toEqual([
      [RING_HEADER_SIZE + 255 * size, size, RSP],
      [RING_HEADER_SIZE, 3 * size, RSP],
      [RSP_PROD, 4, INDEX],
    ]);
    expect(get(RSP_PROD)).toBe(515);
  });

  test("goes nowhere when the guest has taken the page back", () => {
    const { make, set, page, writes } = stage();
    const ring = make();
    set(REQ_PROD, 1);
    ring.consume(1);
    ring.respond();
    page.isGranted = false;
    ring.publish();
    ring.arm(1);
    expect(writes()).toEqual([]);
  });

  test("a wish for an event, once", () => {
    const { make, set, get, writes } = stage();
    const ring = make();
    ring.arm(1);
    expect([get(REQ_EVENT), writes(), ring.takePosted()]).toEqual([
      1,
      [[REQ_EVENT, 4, INDEX]],
      true,
    ]);
    ring.arm(1);
    expect([writes(), ring.takePosted()]).toEqual([[], false]);
    set(REQ_PROD, 5);
    ring.consume(3);
    ring.arm(2);
    expect([get(REQ_EVENT), writes()]).toEqual([5, [[REQ_EVENT, 4, INDEX]]]);
  });
});

test("its state, to the slot; the free ones never below 0", () => {
  const { make, set } = stage();
  const ring = make();
  set(REQ_PROD, 10);
  set(RSP_EVENT, 7);
  ring.consume(5);
  for (let i = 0; i < 4; i++) ring.respond();
  ring.publish();
  ring.respond();
  ring.arm(3);
  expect(ring.snapshot()).toEqual({
    ...{ reference: 9, size: 256, free: 256 - 6 },
    ...{ reqProd: 10, reqCons: 5, reqEvent: 8 },
    ...{ rspProd: 4, rspProdPvt: 5, rspEvent: 7 },
  });
  set(REQ_PROD, 4 + 256);
  expect(ring.snapshot().free).toBe(0);
  set(REQ_PROD, 4 + 300);
  expect(ring.snapshot().free).toBe(0);
  expect(ring.mirror()).toMatchObject({ space: Space.GRANT, address: 9 * 4096 });
  expect(ring.mirror().bytes.length).toBe(4096);
});

test.each([
  [-1, 1, false],
  [0, 1, true],
  [4095, 1, true],
  [4096, 1, false],
  [-10, 10, false],
  [-10, 11, true],
  [-10, 5000, true],
])("memory from byte %i of the page, %i bytes, touches it: %s", (from, length, touches) => {
  expect(
    stage()
      .make()
      .touches(FRAME * 4096 + from, length),
  ).toBe(touches);
});

test.each([
  [0, "nothing"],
  [-4, "nothing"],
  [-1, "GNTST -1"],
])("its end, with the table's status %i: %s", (status, text) => {
  const made = stage({ unmap: status });
  const ring = made.make();
  if (text === "nothing") ring.close();
  else expect(() => ring.close()).toThrow(text);
  expect(made.unmapped()).toBe(1);
});
