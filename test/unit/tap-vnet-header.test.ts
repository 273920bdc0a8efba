import { describe, expect, test } from "vitest";
import { Frame, Gso } from "../../shared/net/frame.ts";
import {
  readVnetHeader,
  VNET_HEADER_BYTES,
  writeVnetHeader,
} from "../../shared/tap/vnet-header.ts";

// Written by hand from struct virtio_net_hdr, little-endian.
const PLAIN = "00 00 0000 0000 0000 0000";
const VALID = "02 00 0000 0000 0000 0000";
/** IPv4 TCP: checksum at 34 + 16. */
const CSUM = "01 00 0000 0000 2200 1000";
/** 66 header bytes (12 of TCP options), 1448 a segment. */
const TSO4 = "01 01 4200 a805 2200 1000";
/** The same with the ECN bit. */
const TSO4_ECN = "01 81 4200 a805 2200 1000";
/** IPv6: TCP at 54, 86 header bytes, 1428 a segment. */
const TSO6 = "01 04 5600 9405 3600 1000";

const TCP_DATA_OFFSET = 12;

function headerView(hex: string): DataView {
  return new DataView(Uint8Array.from(Buffer.from(hex.replaceAll(" ", ""), "hex")).buffer);
}

/** A frame of `length` bytes whose TCP header, at `tcp`, has `words` 32-bit words. */
function frameOf(length: number, tcp = 34, words = 8): Frame {
  const bytes = new Uint8Array(length);
  if (tcp + TCP_DATA_OFFSET < length) bytes[tcp + TCP_DATA_OFFSET] = words << 4;
  const frame = new Frame();
  frame.push(bytes, 0, length);
  return frame;
}

function facts(frame: Frame) {
  const { needsCsum, csumStart, csumOffset, csumValid } = frame;
  const { gso, gsoEcn, gsoSize, headerLength } = frame;
  return { needsCsum, csumStart, csumOffset, csumValid, gso, gsoEcn, gsoSize, headerLength };
}

const csum = { needsCsum: true, csumStart: 34, csumOffset: 16, csumValid: true };
const none = { needsCsum: false, csumStart: 0, csumOffset: 0, csumValid: false };
const noGso = { gso: Gso.NONE, gsoEcn: false, gsoSize: 0, headerLength: 0 };
const tso4 = { ...csum, gso: Gso.TCPV4, gsoEcn: false, gsoSize: 1448, headerLength: 66 };
const tso6 = {
  ...csum,
  csumStart: 54,
  gso: Gso.TCPV6,
  gsoEcn: false,
  gsoSize: 1428,
  headerLength: 86,
};

describe("golden bytes, both ways", () => {
  test.each([
    ["nothing to say", PLAIN, frameOf(60), { ...none, ...noGso }],
    ["checksum verified", VALID, frameOf(60), { ...none, csumValid: true, ...noGso }],
    ["checksum to be finished", CSUM, frameOf(60), { ...csum, ...noGso }],
    ["TCP over IPv4 super-frame", TSO4, frameOf(20000), tso4],
    ["the same with ECN", TSO4_ECN, frameOf(20000), { ...tso4, gsoEcn: true }],
    ["TCP over IPv6 super-frame", TSO6, frameOf(20000, 54), tso6],
  ])("%s", (_name, hex, frame, expected) => {
    const header = headerView(hex);
    expect(readVnetHeader(header, 0, frame)).toBe(true);
    expect(facts(frame)).toEqual(expected);

    const out = new DataView(new Uint8Array(VNET_HEADER_BYTES + 2).fill(0xa5).buffer);
    writeVnetHeader(out, 1, frame);
    expect(Buffer.from(out.buffer).toString("hex")).toBe(`a5${hex.replaceAll(" ", "")}a5`);
  });
});

test("the header length is the TCP header's own, not the sender's hint", () => {
  const frame = frameOf(20000);
  // The kernel writes the length of the linear part of its buffer there: here 256 bytes.
  expect(readVnetHeader(headerView("01 01 0001 a805 2200 1000"), 0, frame)).toBe(true);
  expect(frame.headerLength).toBe(66);
});

describe("a header that contradicts its frame is refused", () => {
  test.each([
    ["checksum in the last byte", "01 00 0000 0000 2200 1000", frameOf(51)],
    ["checksum far outside", "01 00 0000 0000 ffff ffff", frameOf(60)],
    ["GSO of UDP", "01 03 4200 a805 2200 1000", frameOf(2000)],
    ["GSO kind unknown", "01 7f 4200 a805 2200 1000", frameOf(2000)],
    ["GSO without a checksum", "00 01 4200 a805 2200 1000", frameOf(2000)],
    ["segments of nothing", "01 01 4200 0000 2200 1000", frameOf(2000)],
    ["TCP header too short", TSO4, frameOf(2000, 34, 4)],
    ["TCP header behind the end", TSO4, frameOf(60, 34, 8)],
  ])("%s", (_name, hex, frame) => {
    expect(readVnetHeader(headerView(hex), 0, frame)).toBe(false);
  });

  test("the checksum may be the last two bytes", () => {
    expect(readVnetHeader(headerView(CSUM), 0, frameOf(52))).toBe(true);
  });
});
