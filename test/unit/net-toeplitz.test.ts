import { describe, expect, it } from "vitest";
import { Headers } from "../../shared/net/headers.ts";
import { HashField, HashProtocol, hashProtocol, ToeplitzHash } from "../../shared/net/toeplitz.ts";
import { buildPacket, frameOf } from "../support/packets.ts";

/** Key and vectors: Microsoft, "Verifying the RSS Hash Calculation". */
const KEY = Uint8Array.from(
  Buffer.from(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa",
    "hex",
  ),
);

// source, port, destination, port, hash of addresses, hash with ports
const V4: [string, number, string, number, number, number][] = [
  ["66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e8fc2, 0x51ccc178],
  ["199.92.111.2", 14230, "65.69.140.83", 4739, 0xd718262a, 0xc626b0ea],
  ["24.19.198.95", 12898, "12.22.207.184", 38024, 0xd2d0a5de, 0x5c2b394a],
  ["38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xafc7327f],
  ["153.39.163.191", 44251, "202.188.127.2", 1303, 0x5d1809c5, 0x10e828a2],
];
const V6: [string, number, string, number, number, number][] = [
  [
    "3ffe250102001fff0000000000000007",
    2794,
    "3ffe2501020000030000000000000001",
    1766,
    0x2cc18cd5,
    0x40207d3d,
  ],
  [
    "3ffe050100080000026097fffe40efab",
    14230,
    "ff020000000000000000000000000001",
    4739,
    0x0f0c461c,
    0xdde51bbf,
  ],
  [
    "3ffe1900454500030200f8fffe2167cf",
    44251,
    "fe800000000000000200f8fffe2167cf",
    38024,
    0x4b61e985,
    0x02d1feef,
  ],
];

function hashOf(rss: ToeplitzHash, bytes: Uint8Array): number {
  const h = new Headers();
  h.parse(frameOf(bytes, [9]));
  return rss.hash(h);
}

function withTuple(
  v6: boolean,
  protocol: 6 | 17,
  source: Uint8Array,
  sp: number,
  destination: Uint8Array,
  dp: number,
) {
  const built = buildPacket({ v6, protocol, payload: new Uint8Array(10) });
  const addresses = built.l3 + (v6 ? 8 : 12);
  built.bytes.set(source, addresses);
  built.bytes.set(destination, addresses + source.length);
  const view = new DataView(built.bytes.buffer);
  view.setUint16(built.l4, sp);
  view.setUint16(built.l4 + 2, dp);
  return built;
}
const quad = (text: string): Uint8Array => Uint8Array.from(text.split("."), Number);
const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));

describe("Toeplitz hash", () => {
  it("gives the published values for IPv4 and IPv6, with and without ports", () => {
    const rss = new ToeplitzHash(new Uint8Array(40).fill(0xff));
    rss.setKey(KEY);
    for (const [v6, rows] of [
      [false, V4],
      [true, V6],
    ] as const) {
      for (const [source, sp, destination, dp, addresses, tuple] of rows) {
        const read = v6 ? hex : quad;
        for (const protocol of [6, 17] as const) {
          const built = withTuple(v6, protocol, read(source), sp, read(destination), dp);
          expect(hashOf(rss, built.bytes)).toBe(tuple);
          // Any other protocol: addresses only.
          built.bytes[built.l3 + (v6 ? 6 : 9)] = 50;
          expect(hashOf(rss, built.bytes)).toBe(addresses);
        }
      }
    }
  });

  it("takes only the fields selected for the protocol", () => {
    const rss = new ToeplitzHash(KEY);
    const [source, sp, destination, dp, addresses] = V4[0]!;
    const built = withTuple(false, 6, quad(source), sp, quad(destination), dp);
    rss.setFields(HashProtocol.TCP4, HashField.L3_SA | HashField.L3_DA);
    expect(hashOf(rss, built.bytes)).toBe(addresses);
    rss.setFields(HashProtocol.TCP4, 0);
    expect(hashOf(rss, built.bytes)).toBe(0);
    rss.setFields(HashProtocol.TCP4, HashField.L4_SP);
    const one = hashOf(rss, built.bytes);
    built.bytes[built.l3 + 12]! ^= 1;
    built.bytes[built.l4 + 3]! ^= 1;
    expect(hashOf(rss, built.bytes)).toBe(one);
    built.bytes[built.l4 + 1]! ^= 1;
    expect(hashOf(rss, built.bytes)).not.toBe(one);
  });

  it("sorts frames into ENA's rows", () => {
    const row = (bytes: Uint8Array): number => {
      const h = new Headers();
      h.parse(frameOf(bytes));
      return hashProtocol(h);
    };
    const ext = [{ kind: 60, bytes: new Uint8Array(8) }];
    expect(row(buildPacket({}).bytes)).toBe(HashProtocol.TCP4);
    expect(row(buildPacket({ protocol: 17 }).bytes)).toBe(HashProtocol.UDP4);
    expect(row(buildPacket({ v6: true }).bytes)).toBe(HashProtocol.TCP6);
    expect(row(buildPacket({ v6: true, protocol: 17 }).bytes)).toBe(HashProtocol.UDP6);
    expect(row(buildPacket({ v6: true, extensions: ext }).bytes)).toBe(HashProtocol.TCP6_EX);
    const fragment = buildPacket({});
    fragment.bytes[fragment.l3 + 6] = 0x20;
    expect(row(fragment.bytes)).toBe(HashProtocol.IP4_FRAG);
    const arp = new Uint8Array(60);
    arp.set([8, 6], 12);
    expect(row(arp)).toBe(HashProtocol.NOT_IP);
  });

  it("attack-S2c builds tables for a key once, and only when a frame is hashed", () => {
    const rss = new ToeplitzHash(KEY);
    const other = KEY.slice().reverse();
    for (let i = 0; i < 100; i++) rss.setKey(i % 2 === 0 ? other : KEY);
    expect(rss.builds).toBe(0);
    const [source, sp, destination, dp, , tuple] = V4[0]!;
    const built = withTuple(false, 6, quad(source), sp, quad(destination), dp);
    expect(hashOf(rss, built.bytes)).toBe(tuple);
    rss.setKey(KEY);
    expect(hashOf(rss, built.bytes)).toBe(tuple);
    expect(rss.builds).toBe(1);
    rss.setKey(other);
    expect(hashOf(rss, built.bytes)).not.toBe(tuple);
    rss.setKey(new Uint8Array(40));
    expect(hashOf(rss, built.bytes)).toBe(0);
    expect(rss.builds).toBe(3);
  });

  it("refuses a key of another length", () => {
    expect(() => new ToeplitzHash(new Uint8Array(39))).toThrow("40 bytes");
  });
});
