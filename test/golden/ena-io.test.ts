/**
 * ENA IO descriptors, byte for byte.
 *
 * How the hex was made: a C program included, unchanged, the headers of amzn-drivers:
 * kernel/fbsd/ena/ena-com/ena_defs/{ena_common_defs,ena_regs_defs,ena_admin_defs,ena_eth_io_defs}.h
 * with BIT and GENMASK defined, on x86-64. It zeroed each
 * structure, set the values listed through the structure's own members and the headers' own
 * _SHIFT and _MASK macros, and printed sizeof and the bytes. None of our code took part.
 */
import { describe, expect, test } from "vitest";
import {
  RX_CDESC_SIZE,
  RX_DESC_SIZE,
  rxCdesc,
  rxDesc,
  TX_CDESC_SIZE,
  TX_DESC_SIZE,
  txCdesc,
  txDesc,
  txMeta,
} from "../../shared/ena/io.ts";
import { queueId } from "../../shared/net/frame.ts";
import { busAddress } from "../../shared/wire/records.ts";
import { inJunk, writtenHex } from "./ena-golden.ts";

type Reader = (view: DataView, at: number) => number;

/** Checks every listed field, read from the golden bytes in the middle of junk. */
function decodes(
  hex: string,
  fields: Readonly<Record<string, number>>,
  from: Readonly<Record<string, unknown>>,
): void {
  const { view, at } = inJunk(hex.length / 2, hex);
  for (const [name, value] of Object.entries(fields)) {
    expect({ [name]: (from[name] as Reader)(view, at) }).toEqual({ [name]: value });
  }
}

function encodes(hex: string, write: (view: DataView, at: number) => void): void {
  const { bytes, view, at } = inJunk(hex.length / 2);
  write(view, at);
  expect(writtenHex(bytes)).toBe(hex);
}

const TX_1_HEX = "ea052d159b4c42b5f6e5d4c3b2a100e0";
const TX_1 = {
  length: 0x5ea,
  reqId: 0xb6d5,
  isMeta: 0x0,
  phase: 0x1,
  first: 0x1,
  last: 0x0,
  compReq: 0x1,
  l3Proto: 0xb,
  df: 0x1,
  tsoEnable: 0x1,
  l4Proto: 0xc,
  l3CsumEnable: 0x0,
  l4CsumEnable: 0x1,
  l4Partial: 0x1,
  address: 0xa1b2c3d4e5f6,
  headerLength: 0xe0,
};
const TX_2_HEX = "ffff000808adc0ff00f0ffff80000000";
const TX_2 = {
  length: 0xffff,
  reqId: 0x3ff,
  isMeta: 0x0,
  phase: 0x0,
  first: 0x0,
  last: 0x1,
  compReq: 0x0,
  l3Proto: 0x8,
  df: 0x0,
  tsoEnable: 0x0,
  l4Proto: 0xd,
  l3CsumEnable: 0x1,
  l4CsumEnable: 0x0,
  l4Partial: 0x0,
  address: 0x80fffff000,
  headerLength: 0x0,
};
const META_1_HEX = "0040ba05000000002812edd900000000";
const META_1 = {
  extValid: 0x1,
  mss: 0x2b67,
  ethMetaType: 0x1,
  isMeta: 0x1,
  phase: 0x1,
  first: 0x1,
  last: 0x0,
  compReq: 0x0,
  l3HdrLen: 0x28,
  l3HdrOffset: 0x12,
  l4HdrLenWords: 0x2d,
};
const TXC_1_HEX = "a18f5b012e1dfdfe";
const TXC_1 = {
  reqId: 0x8fa1,
  status: 0x5b,
  phase: 0x1,
  mbz: 0x0,
  subQid: 0x1d2e,
  sqHeadIdx: 0xfefd,
};
const TXC_2_HEX = "0100008000000000";
const TXC_2 = { reqId: 0x1, phase: 0x0, mbz: 0x2 };
const RX_1_HEX = "4006001db39a0000b6a5f4e3d2c10000";
const RX_1 = {
  length: 0x640,
  phase: 0x1,
  reqId: 0x9ab3,
  address: 0xc1d2e3f4a5b6,
};
const RX_2_HEX = "0000001c7f0000000010000000000000";
const RX_2 = {
  length: 0x10000,
  phase: 0x0,
  reqId: 0x7f,
  address: 0x1000,
};
const RXC_1_HEX = "084d014545230df0efcdab891b1a2c00";
const RXC_1 = {
  l3Proto: 0x8,
  l4Proto: 0xd,
  l3CsumErr: 0x0,
  l4CsumErr: 0x1,
  ipv4Frag: 0x0,
  l4CsumChecked: 0x1,
  phase: 0x1,
  first: 0x1,
  last: 0x0,
  mbz: 0x0,
  length: 0x2345,
  reqId: 0xf00d,
  hash: 0x89abcdef,
  subQid: 0x1a1b,
  offset: 0x2c,
};
const RXC_2_HEX = "56b7024a400003000000000000000000";
const RXC_2 = {
  l3Proto: 0x16,
  vlanCount: 0x2,
  l4Proto: 0x17,
  l3CsumErr: 0x1,
  l4CsumErr: 0x0,
  ipv4Frag: 0x1,
  l4CsumChecked: 0x0,
  phase: 0x0,
  l3Csum2: 0x1,
  first: 0x0,
  last: 0x1,
  mbz: 0x20000,
  length: 0x40,
  reqId: 0x3,
  hash: 0x0,
  subQid: 0x0,
  offset: 0x0,
};

describe("ena_eth_io_tx_desc", () => {
  test("16 bytes", () => expect(TX_1_HEX.length).toBe(2 * TX_DESC_SIZE));

  test.each([
    [TX_1_HEX, TX_1],
    [TX_2_HEX, TX_2],
  ])("%s decodes, field by field and word by word", (hex, fields) => {
    const { address, headerLength, df: _, ...words } = fields;
    const { length, isMeta, first, last, reqId } = words;
    decodes(hex, { length, isMeta, first, last, reqId, address, headerLength }, txDesc);
    const { view, at } = inJunk(TX_DESC_SIZE, hex);
    const lenCtrl = txDesc.lenCtrl(view, at);
    const metaCtrl = txDesc.metaCtrl(view, at);
    expect({
      length: txDesc.lengthOf(lenCtrl),
      isMeta: txDesc.isMetaOf(lenCtrl),
      phase: txDesc.phaseOf(lenCtrl),
      first: txDesc.firstOf(lenCtrl),
      last: txDesc.lastOf(lenCtrl),
      compReq: txDesc.compReqOf(lenCtrl),
      reqId: txDesc.reqIdOf(lenCtrl, metaCtrl),
      l3Proto: txDesc.l3ProtoOf(metaCtrl),
      tsoEnable: txDesc.tsoEnableOf(metaCtrl),
      l4Proto: txDesc.l4ProtoOf(metaCtrl),
      l3CsumEnable: txDesc.l3CsumEnableOf(metaCtrl),
      l4CsumEnable: txDesc.l4CsumEnableOf(metaCtrl),
      l4Partial: txDesc.l4PartialOf(metaCtrl),
    }).toEqual(words);
  });

  test("encodes every byte", () => {
    const f = TX_1;
    const offload = txDesc.packOffload(
      f.l3Proto,
      f.l4Proto,
      f.l3CsumEnable,
      f.l4CsumEnable,
      f.l4Partial,
      f.tsoEnable,
      f.df,
    );
    encodes(TX_1_HEX, (view, at) =>
      txDesc.write(
        view,
        at,
        f.length,
        f.reqId,
        f.phase,
        f.first,
        f.last,
        f.compReq,
        offload,
        busAddress(f.address),
        f.headerLength,
      ),
    );
  });

  test("encodes the other bits: no driver disables the FCS, so that bit is added here", () => {
    const f = TX_2;
    const offload = txDesc.packOffload(
      f.l3Proto,
      f.l4Proto,
      f.l3CsumEnable,
      f.l4CsumEnable,
      f.l4Partial,
      f.tsoEnable,
      f.df,
    );
    encodes(TX_2_HEX, (view, at) =>
      txDesc.write(
        view,
        at,
        f.length,
        f.reqId,
        f.phase,
        f.first,
        f.last,
        f.compReq,
        offload | (1 << 15),
        busAddress(f.address),
        f.headerLength,
      ),
    );
  });
});

describe("ena_eth_io_tx_meta_desc", () => {
  test("decodes; what it shares with a tx descriptor is read with txDesc", () => {
    const { isMeta, phase, first, last, compReq, ...own } = META_1;
    decodes(META_1_HEX, { isMeta, first, last }, txDesc);
    const { view, at } = inJunk(TX_DESC_SIZE, META_1_HEX);
    const lenCtrl = txDesc.lenCtrl(view, at);
    expect([txDesc.phaseOf(lenCtrl), txDesc.compReqOf(lenCtrl)]).toEqual([phase, compReq]);
    decodes(META_1_HEX, own, txMeta);
  });

  test("encodes every byte", () => {
    const f = META_1;
    encodes(META_1_HEX, (view, at) =>
      txMeta.write(view, at, f.phase, f.mss, f.l3HdrLen, f.l3HdrOffset, f.l4HdrLenWords),
    );
  });
});

describe("ena_eth_io_tx_cdesc", () => {
  test("8 bytes", () => expect(TXC_1_HEX.length).toBe(2 * TX_CDESC_SIZE));
  test.each([
    [TXC_1_HEX, TXC_1],
    [TXC_2_HEX, TXC_2],
  ])("%s decodes, with bits that must be zero", (hex, { reqId, phase, mbz }) =>
    decodes(hex, { reqId, phase, mbz }, txCdesc),
  );
  test("encodes every byte", () => {
    const f = TXC_1;
    encodes(TXC_1_HEX, (view, at) =>
      txCdesc.write(view, at, f.reqId, f.status, f.phase, queueId(f.subQid), f.sqHeadIdx),
    );
  });
});

describe("ena_eth_io_rx_desc", () => {
  test("16 bytes", () => expect(RX_1_HEX.length).toBe(2 * RX_DESC_SIZE));
  test.each([
    [RX_1_HEX, RX_1],
    [RX_2_HEX, RX_2],
  ])("%s decodes; a length of zero is 64 KiB", (hex, fields) => decodes(hex, fields, rxDesc));
  test.each([
    [RX_1_HEX, RX_1],
    [RX_2_HEX, RX_2],
  ])("%s: encodes every byte", (hex, f) => {
    encodes(hex, (view, at) =>
      rxDesc.write(view, at, f.length, f.phase, f.reqId, busAddress(f.address)),
    );
  });
});

describe("ena_eth_io_rx_cdesc_base", () => {
  test("16 bytes", () => expect(RXC_1_HEX.length).toBe(2 * RX_CDESC_SIZE));

  test.each([
    [RXC_1_HEX, RXC_1],
    [RXC_2_HEX, RXC_2],
  ])("%s decodes, field by field and from the status word", (hex, fields) => {
    const { phase, first, last, length, reqId, hash, offset } = fields;
    decodes(hex, { phase, length, reqId, hash, offset }, rxCdesc);
    const { view, at } = inJunk(RX_CDESC_SIZE, hex);
    const status = rxCdesc.status(view, at);
    expect({
      l3Proto: rxCdesc.l3ProtoOf(status),
      l4Proto: rxCdesc.l4ProtoOf(status),
      l3CsumErr: rxCdesc.l3CsumErrOf(status),
      l4CsumErr: rxCdesc.l4CsumErrOf(status),
      ipv4Frag: rxCdesc.ipv4FragOf(status),
      l4CsumChecked: rxCdesc.l4CsumCheckedOf(status),
      mbz: rxCdesc.mbzOf(status),
    }).toEqual({
      l3Proto: fields.l3Proto,
      l4Proto: fields.l4Proto,
      l3CsumErr: fields.l3CsumErr,
      l4CsumErr: fields.l4CsumErr,
      ipv4Frag: fields.ipv4Frag,
      l4CsumChecked: fields.l4CsumChecked,
      mbz: fields.mbz,
    });
    expect([rxCdesc.phaseOf(status), rxCdesc.firstOf(status), rxCdesc.lastOf(status)]).toEqual([
      phase,
      first,
      last,
    ]);
  });

  test("encodes every byte", () => {
    const f = RXC_1;
    const verdict = rxCdesc.packVerdict(
      f.l3Proto,
      f.l4Proto,
      f.l3CsumErr,
      f.l4CsumErr,
      f.l4CsumChecked,
      f.ipv4Frag,
    );
    encodes(RXC_1_HEX, (view, at) =>
      rxCdesc.write(
        view,
        at,
        verdict,
        f.phase,
        f.first,
        f.last,
        f.length,
        f.reqId,
        f.hash,
        queueId(f.subQid),
        f.offset,
      ),
    );
  });

  test("encodes the other bits: VLAN count, second sum and a bit that must be zero are added here", () => {
    const f = RXC_2;
    const verdict = rxCdesc.packVerdict(
      f.l3Proto,
      f.l4Proto,
      f.l3CsumErr,
      f.l4CsumErr,
      f.l4CsumChecked,
      f.ipv4Frag,
    );
    const others = (f.vlanCount << 5) | (f.l3Csum2 << 25) | f.mbz;
    encodes(RXC_2_HEX, (view, at) =>
      rxCdesc.write(
        view,
        at,
        verdict | others,
        f.phase,
        f.first,
        f.last,
        f.length,
        f.reqId,
        f.hash,
        queueId(f.subQid),
        f.offset,
      ),
    );
  });
});
