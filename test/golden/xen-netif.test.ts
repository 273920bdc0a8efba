/**
 * Ring pages and network slots, byte for byte.
 *
 * How the hex was made: a C program included, unchanged, the headers of xen: xen/include/public/
 * {xen,grant_table,event_channel,sched}.h and io/{netif,ring,xenbus,xs_wire}.h, on x86-64. It zeroed
 * each structure, or ring entry, set the values listed through the structure's own members and the
 * headers' own macros, and printed sizeof and the bytes. None of our code took part.
 */

import { describe, expect, test } from "vitest";
import { index32 } from "../../shared/ring/index32.ts";
import { CTRL_SLOT_SIZE, ctrlRequest, ctrlResponse } from "../../shared/xen/control.ts";
import { EXTRA_SIZE, extra } from "../../shared/xen/extra.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import {
  RX_RING_SLOTS,
  RX_SLOT_SIZE,
  rxRequest,
  rxResponse,
  TX_RING_SLOTS,
  TX_SLOT_SIZE,
  txRequest,
  txResponse,
} from "../../shared/xen/netif.ts";
import {
  RING_HEADER_SIZE,
  RING_PAGE_BYTES,
  RingWord,
  ringSlots,
  slotOffset,
  sring,
} from "../../shared/xen/ring.ts";
import { golden, inJunk, writtenHex } from "./ena-golden.ts";
import { decodes, encodes } from "./xen-golden.ts";

describe("a ring page", () => {
  const HEX = `040302011413121184838281feffffff${"00".repeat(48)}`;

  test("the header decodes", () => {
    expect(HEX.length).toBe(2 * RING_HEADER_SIZE);
    decodes(
      HEX,
      {
        reqProd: 0x01020304,
        reqEvent: 0x11121314,
        rspProd: 0x81828384,
        rspEvent: 0xfffffffe,
      },
      sring,
    );
  });

  test("each index is written alone, and nothing else", () => {
    const { bytes, view, at } = inJunk(16);
    sring.setWord(view, at, RingWord.REQ_PROD, index32(0x01020304));
    sring.setWord(view, at, RingWord.RSP_EVENT, index32(0xfffffffe));
    expect(writtenHex(bytes)).toBe("04030201a5a5a5a5a5a5a5a5feffffff");
    sring.setWord(view, at, RingWord.REQ_EVENT, index32(0x11121314));
    sring.setWord(view, at, RingWord.RSP_PROD, index32(0x81828384));
    expect(writtenHex(bytes)).toBe("040302011413121184838281feffffff");
    sring.setWord(view, at, 8, index32(0x0a0b0c0d));
    expect(writtenHex(bytes)).toBe("04030201141312110d0c0b0afeffffff");
  });

  test("a fresh ring is SHARED_RING_INIT, and its slots hold nothing old", () => {
    const { bytes, view, at } = inJunk(RING_PAGE_BYTES);
    sring.init(view, at);
    const header = "00000000010000000000000001000000";
    expect(writtenHex(bytes)).toBe(header + "00".repeat(RING_PAGE_BYTES - 16));
  });

  test("slots: 256 tx, 256 rx, 128 control; the last index before the wrap is the last slot", () => {
    expect([TX_RING_SLOTS, RX_RING_SLOTS, ringSlots(CTRL_SLOT_SIZE)]).toEqual([256, 256, 128]);
    expect(slotOffset(index32(0xffffffff), TX_SLOT_SIZE, TX_RING_SLOTS)).toBe(3124);
    expect(slotOffset(index32(0), TX_SLOT_SIZE, TX_RING_SLOTS)).toBe(64);
    expect(slotOffset(index32(257), RX_SLOT_SIZE, RX_RING_SLOTS)).toBe(72);
  });
});

describe("netif_tx_request", () => {
  const HEX = "efcdab89ed0f0d003412feff";
  const VALUE = { gref: 0x89abcdef, offset: 0xfed, flags: 0xd, id: 0x1234, size: 0xfffe };
  test("12 bytes", () => expect(HEX.length).toBe(2 * TX_SLOT_SIZE));
  test("decodes", () => decodes(HEX, VALUE, txRequest));
  test("encodes every byte", () =>
    encodes(HEX, (view, at) =>
      txRequest.write(
        view,
        at,
        grantRef(VALUE.gref),
        VALUE.offset,
        VALUE.flags,
        VALUE.id,
        VALUE.size,
      ),
    ));
});

describe("netif_tx_response", () => {
  const HEX = "efbefeff0000000000000000";
  test("decodes", () => decodes(HEX, { id: 0xbeef, status: -2 }, txResponse));
  test("XSA-216: a response carries nothing of what stood in its slot", () =>
    encodes(HEX, (view, at) => txResponse.write(view, at, 0xbeef, -2)));
});

describe("netif_rx_request", () => {
  const HEX = "0201000098badcfe";
  test("8 bytes", () => expect(HEX.length).toBe(2 * RX_SLOT_SIZE));
  test("decodes", () => decodes(HEX, { id: 0x0102, gref: 0xfedcba98 }, rxRequest));
  test("encodes every byte, padding too", () =>
    encodes(HEX, (view, at) => rxRequest.write(view, at, 0x0102, grantRef(0xfedcba98))));
});

describe("netif_rx_response", () => {
  const HEX = "0b0abc0a1500f6ff";
  const VALUE = { id: 0x0a0b, offset: 0xabc, flags: 0x15, status: -10 };
  test("decodes", () => decodes(HEX, VALUE, rxResponse));
  test("encodes every byte", () =>
    encodes(HEX, (view, at) =>
      rxResponse.write(view, at, VALUE.id, VALUE.offset, VALUE.flags, VALUE.status),
    ));
});

describe("netif_extra_info", () => {
  const GSO = "0101a80502000180";
  const MCAST = "03003333ff010203";
  const HASH = "04010301f4e3d2c1";

  test("8 bytes", () => expect(GSO.length).toBe(2 * EXTRA_SIZE));

  test("GSO decodes", () =>
    decodes(GSO, { type: 1, flags: 1, gsoSize: 0x5a8, gsoType: 2, gsoFeatures: 0x8001 }, extra));
  test("GSO encodes every byte", () =>
    encodes(GSO, (view, at) => extra.writeGso(view, at, RX_SLOT_SIZE, 1, 0x5a8, 2, 0x8001)));

  test("MCAST_DEL decodes", () => {
    decodes(MCAST, { type: 3, flags: 0 }, extra);
    const { view, at } = inJunk(EXTRA_SIZE, MCAST);
    const address = [0, 1, 2, 3, 4, 5].map((i) => extra.mcastByte(view, at, i));
    expect(address).toEqual([0x33, 0x33, 0xff, 1, 2, 3]);
  });
  test("MCAST_DEL encodes every byte", () => {
    const frame = Uint8Array.of(9, 9, 0x33, 0x33, 0xff, 1, 2, 3, 9);
    encodes(MCAST, (view, at) => extra.writeMcast(view, at, RX_SLOT_SIZE, 0, 3, frame, 2));
  });

  test("HASH decodes", () =>
    decodes(
      HASH,
      { type: 4, flags: 1, hashType: 3, hashAlgorithm: 1, hashValue: 0xc1d2e3f4 },
      extra,
    ));
  test("HASH encodes every byte", () =>
    encodes(HASH, (view, at) => extra.writeHash(view, at, RX_SLOT_SIZE, 1, 3, 1, 0xc1d2e3f4)));

  test("XSA-216: in a tx slot the four bytes behind it are zero", () => {
    encodes("0100a8050100000000000000", (view, at) =>
      extra.writeGso(view, at, TX_SLOT_SIZE, 0, 1448, 1),
    );
    encodes(`${MCAST}00000000`, (view, at) =>
      extra.writeMcast(view, at, TX_SLOT_SIZE, 0, 3, Uint8Array.of(0x33, 0x33, 0xff, 1, 2, 3), 0),
    );
    encodes(`${HASH}00000000`, (view, at) =>
      extra.writeHash(view, at, TX_SLOT_SIZE, 1, 3, 1, 0xc1d2e3f4),
    );
  });
});

describe("the control ring", () => {
  test("a slot has 16 bytes", () => expect(CTRL_SLOT_SIZE).toBe(16));
  golden("xen_netif_ctrl_request", ctrlRequest, 16, "221106000403020180000000d0c0b0a0", {
    id: 0x1122,
    type: 6,
    data0: 0x01020304,
    data1: 128,
    data2: 0xa0b0c0d0,
  });
  golden(
    "XSA-216: xen_netif_ctrl_response in its slot",
    ctrlResponse,
    16,
    "2211060003000000efbeadde00000000",
    { id: 0x1122, type: 6, status: 3, data: 0xdeadbeef },
  );
});
