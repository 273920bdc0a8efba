import { describe, expect, it } from "vitest";
import { Headers, L3, L4, Problem } from "../../shared/net/headers.ts";
import { buildPacket, frameOf, type TcpOptions } from "../support/packets.ts";

const parse = (bytes: Uint8Array, cuts: number[] = []): Headers => {
  const h = new Headers();
  h.parse(frameOf(bytes, cuts));
  return h;
};

const hopByHop = { kind: 0, bytes: Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0) };
const routing = { kind: 43, bytes: new Uint8Array(24).fill(0).fill(2, 1, 2) };
const destination = { kind: 60, bytes: Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0) };
const payload = new Uint8Array(33).fill(7);

const shapes: Record<string, TcpOptions> = {
  "TCP over IPv4": { payload },
  "TCP over IPv4 with options": { payload, ipOptions: new Uint8Array(8).fill(1) },
  "UDP over IPv4": { payload, protocol: 17 },
  "TCP over IPv6": { payload, v6: true },
  "TCP over IPv6 with extensions": {
    payload,
    v6: true,
    extensions: [hopByHop, routing, destination],
  },
  "TCP with options and one tag": {
    payload,
    tcpOptions: new Uint8Array(12).fill(1),
    tags: [[0x8100, 5]],
  },
  "TCP over IPv6 and two tags": {
    payload,
    v6: true,
    tags: [
      [0x88a8, 7],
      [0x8100, 5],
    ],
  },
};

describe("Headers", () => {
  for (const [name, options] of Object.entries(shapes)) {
    it(`finds the layers of ${name}, however it is cut`, () => {
      const built = buildPacket(options);
      for (const cuts of [
        [],
        Array.from({ length: 94 }, () => 1),
        [14],
        [15],
        [built.l4],
        [built.payload],
        [3, 50],
      ]) {
        const h = parse(built.bytes, cuts);
        expect(h.problems).toBe(0);
        expect(h.l3).toBe(options.v6 ? L3.IPV6 : L3.IPV4);
        expect(h.l4).toBe(options.protocol ?? L4.TCP);
        expect([h.l3Offset, h.l4Offset, h.payloadOffset]).toEqual([
          built.l3,
          built.l4,
          built.payload,
        ]);
        expect(h.l3HeaderLength).toBe(built.l4 - built.l3);
        expect(h.l3End).toBe(built.bytes.length);
        expect(h.vlanTags).toBe(options.tags?.length ?? 0);
        expect(h.l3Options).toBe(
          options.ipOptions !== undefined || options.extensions !== undefined,
        );
        expect(h.fragment).toBe(false);
      }
    });

    it(`names what is missing at each truncation of ${name}`, () => {
      const built = buildPacket(options);
      for (let length = 0; length < built.bytes.length; length++) {
        const cut = built.bytes.slice(0, length);
        for (const cuts of [[], [7], [20, 9]]) {
          const h = parse(cut, cuts);
          expect(h.problems, `${length} bytes`).not.toBe(0);
          if (length < 14) expect(h.problems).toBe(Problem.RUNT);
          else if (length < built.l3) expect(h.problems).toBe(Problem.VLAN);
          else if (length >= built.payload) expect(h.problems & Problem.L3_LENGTH).not.toBe(0);
        }
      }
    });
  }

  it("leaves padding out of the packet", () => {
    const built = buildPacket({});
    const padded = new Uint8Array(60);
    padded.set(built.bytes);
    const h = parse(padded);
    expect(h.problems).toBe(0);
    expect(h.l3End).toBe(54);
  });

  it("tells fragments, and finds layer 4 in the first only", () => {
    const { bytes, l3 } = buildPacket({ payload });
    bytes[l3 + 6] = 0x20;
    let h = parse(bytes);
    expect([h.fragment, h.firstFragment, h.l4]).toEqual([true, true, L4.TCP]);
    bytes[l3 + 7] = 2;
    h = parse(bytes);
    expect([h.fragment, h.firstFragment, h.l4]).toEqual([true, false, L4.NONE]);

    const more = Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 9);
    const v6 = buildPacket({ payload, v6: true, extensions: [{ kind: 44, bytes: more }] });
    h = parse(v6.bytes);
    expect([h.fragment, h.firstFragment, h.l4]).toEqual([true, true, L4.TCP]);
    v6.bytes[v6.l3 + 43] = 0x08;
    h = parse(v6.bytes);
    expect([h.fragment, h.firstFragment, h.l4]).toEqual([true, false, L4.NONE]);
  });

  it("refuses impossible versions, lengths and offsets", () => {
    const change = (
      options: TcpOptions,
      f: (b: Uint8Array, l3: number, l4: number) => void,
    ): number => {
      const { bytes, l3, l4 } = buildPacket(options);
      f(bytes, l3, l4);
      return parse(bytes).problems;
    };
    expect(
      change({}, (b, l3) => {
        b[l3] = 0x65;
      }),
    ).toBe(Problem.L3_HEADER);
    expect(
      change({}, (b, l3) => {
        b[l3] = 0x44;
      }),
    ).toBe(Problem.L3_HEADER);
    expect(
      change({}, (b, l3) => {
        b[l3] = 0x4f;
      }),
    ).toBe(Problem.L3_HEADER);
    expect(
      change({}, (b, l3) => {
        b[l3 + 3] = 19;
      }),
    ).toBe(Problem.L3_LENGTH);
    expect(
      change({}, (b, l3) => {
        b[l3 + 3] = 41;
      }),
    ).toBe(Problem.L3_LENGTH);
    expect(
      change({}, (b, _l3, l4) => {
        b[l4 + 12] = 0x40;
      }),
    ).toBe(Problem.L4_HEADER);
    expect(
      change({}, (b, _l3, l4) => {
        b[l4 + 12] = 0x60;
      }),
    ).toBe(Problem.L4_HEADER);
    expect(
      change({ protocol: 17 }, (b, _l3, l4) => {
        b[l4 + 5] = 7;
      }),
    ).toBe(Problem.L4_HEADER);
    expect(
      change({ protocol: 17 }, (b, _l3, l4) => {
        b[l4 + 5] = 9;
      }),
    ).toBe(Problem.L4_HEADER);
    expect(
      change({ v6: true }, (b, l3) => {
        b[l3] = 0x40;
      }),
    ).toBe(Problem.L3_HEADER);
    const nine = Array.from({ length: 9 }, () => destination);
    expect(change({ v6: true, extensions: nine }, () => {})).toBe(Problem.EXTENSIONS);
    expect(
      change({ v6: true, extensions: [routing] }, (b, l3) => {
        b[l3 + 41] = 99;
      }),
    ).toBe(Problem.EXTENSIONS);
    const tag: [number, number] = [0x8100, 1];
    expect(change({ tags: [tag, tag, tag, tag] }, () => {})).toBe(Problem.VLAN);
  });
});
