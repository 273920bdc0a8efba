/** Segmentation of super-frames, completed checksums, and merging, against plain models. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { mbufToFrame } from "../../frontend/net/facts.ts";
import { Ifnet } from "../../frontend/net/ifnet.ts";
import { LroQueue } from "../../frontend/net/lro.ts";
import type { Mbuf } from "../../frontend/net/mbuf.ts";
import { allocate } from "../../shared/bytes/arena.ts";
import { Frame, Gso, queueId } from "../../shared/net/frame.ts";
import { Headers, L3, L4 } from "../../shared/net/headers.ts";
import { Refusal, Segmenter } from "../../shared/net/segment.ts";
import { holds } from "../support/counts.ts";
import { mbufOf } from "../support/fake-netmap-adapter.ts";
import {
  type Built,
  buildPacket,
  bytesOf,
  frameOf,
  plainSum,
  pseudoHeader,
  type TcpOptions,
} from "../support/packets.ts";

const TCP_FLAG = { CWR: 0x80, ECE: 0x40, ACK: 0x10, PSH: 0x08, FIN: 0x01 };

const words = (most: number) =>
  fc
    .integer({ min: 0, max: most })
    .chain((n) => fc.uint8Array({ minLength: 4 * n, maxLength: 4 * n }));
const tag = fc.tuple(fc.constantFrom(0x8100, 0x88a8), fc.integer({ min: 0, max: 0xffff }));
const extension = fc.record({
  kind: fc.constantFrom(0, 43, 60),
  bytes: fc.constantFrom(new Uint8Array(8), new Uint8Array(24).fill(2, 1, 2)),
});

const tcp: fc.Arbitrary<TcpOptions> = fc.record({
  v6: fc.boolean(),
  tags: fc.array(tag, { maxLength: 2 }),
  ipOptions: words(10),
  tcpOptions: words(10),
  extensions: fc.array(extension, { maxLength: 2 }),
  flags: fc
    .subarray([TCP_FLAG.CWR, TCP_FLAG.ECE, TCP_FLAG.PSH, TCP_FLAG.FIN])
    .map((flags) => flags.reduce((a, b) => a | b, TCP_FLAG.ACK)),
  // Around both wraps of the sequence number.
  sequence: fc.oneof(fc.constant(0xffff_fff0), fc.constant(0x7fff_ff00), fc.nat(0xffff_ffff)),
  id: fc.oneof(fc.constant(0xfffe), fc.nat(0xffff)),
  payload: fc.uint8Array({ maxLength: 6000 }),
  checksum: fc.constant("partial" as const),
});
const cuts = fc.oneof(
  fc.constant(Array.from({ length: 95 }, () => 1)),
  fc.array(fc.integer({ min: 1, max: 900 }), { maxLength: 60 }),
);

const ARENA = allocate(0x10000);
const PLAIN = new Uint8Array(0x10000);
/** Number of segments built in place, and where. */
const inPlace = fc.tuple(fc.constantFrom(0, 1, 3, 1000), fc.constantFrom(ARENA, PLAIN));

function superFrame(built: Built, v6: boolean, mss: number, cut: readonly number[]): Frame {
  const frame = frameOf(built.bytes, cut);
  frame.gso = v6 ? Gso.TCPV6 : Gso.TCPV4;
  frame.gsoSize = mss;
  frame.needsCsum = true;
  frame.csumStart = built.l4;
  frame.csumOffset = 16;
  frame.id = 42;
  return frame;
}

/** Cuts `frame`. The first `inPlace` segments are built in `memory`. */
function cut(frame: Frame, inPlace = 0, memory: Uint8Array = PLAIN): Uint8Array[] | Refusal {
  const h = new Headers();
  h.parse(frame);
  const out: Uint8Array[] = [];
  const segmenter = new Segmenter();
  const refusal = segmenter.begin(frame);
  if (refusal !== undefined) return refusal;
  for (let i = 0; i < inPlace && segmenter.nextBytes > 0; i++) {
    const bytes = segmenter.nextBytes;
    segmenter.build(memory, 7 * i);
    out.push(memory.slice(7 * i, 7 * i + bytes));
  }
  expect([segmenter.built, segmenter.builtBytes]).toEqual([out.length, Buffer.concat(out).length]);
  segmenter.rest({
    segment(segment) {
      expect([segment.needsCsum, segment.gso, segment.csumValid, segment.id]).toEqual([
        false,
        0,
        true,
        42,
      ]);
      out.push(bytesOf(segment));
    },
  });
  return out;
}

/** The expected segments, built from scratch. */
function expected(options: TcpOptions, mss: number): Uint8Array[] {
  const payload = options.payload!;
  const count = Math.max(1, Math.ceil(payload.length / mss));
  return Array.from({ length: count }, (_, i) => {
    let flags = options.flags!;
    if (i > 0) flags &= ~TCP_FLAG.CWR;
    if (i < count - 1) flags &= ~(TCP_FLAG.PSH | TCP_FLAG.FIN);
    return buildPacket({
      ...options,
      checksum: "full",
      flags,
      sequence: (options.sequence! + i * mss) % 2 ** 32,
      id: (options.id! + i) % 2 ** 16,
      payload: payload.subarray(i * mss, (i + 1) * mss),
    }).bytes;
  });
}

describe("segmentation", () => {
  it("gives the frames that a sender without TSO would have sent, however the input is cut", () => {
    holds(
      fc.property(
        tcp,
        fc.integer({ min: 8, max: 3000 }),
        cuts,
        inPlace,
        (options, mss, spans, [n, memory]) => {
          const built = buildPacket(options);
          const before = Uint8Array.from(built.bytes);
          const frame = superFrame(built, options.v6!, mss, spans);
          expect(cut(frame)).toEqual(expected(options, mss));
          expect(cut(frame, n, memory)).toEqual(expected(options, mss));
          expect(bytesOf(frame)).toEqual(before);
        },
      ),
      { numRuns: 500 },
    );
  });

  it("has every checksum right by the book, at 64 KiB", () => {
    for (const v6 of [false, true]) {
      const payload = Uint8Array.from({ length: 65535 - (v6 ? 60 : 40) }, (_, i) => (i * 31) >> 3);
      const built = buildPacket({ v6, payload, sequence: 0xffff_0000, id: 0xfff0 });
      const out = cut(superFrame(built, v6, 1448, [100, 30000, 1])) as Uint8Array[];
      expect(out.length).toBe(Math.ceil(payload.length / 1448));
      for (const bytes of out) {
        const pseudo = pseudoHeader(bytes, built.l3, built.l4, 6);
        expect(plainSum(pseudo, bytes.subarray(built.l4))).toBe(0xffff);
        if (!v6) expect(plainSum(bytes.subarray(built.l3, built.l4))).toBe(0xffff);
      }
      expect(Buffer.concat(out.map((bytes) => bytes.subarray(built.payload))).equals(payload)).toBe(
        true,
      );
    }
  });

  it("takes a sender's total length of zero for the whole frame", () => {
    for (const v6 of [false, true]) {
      const options = { v6, payload: new Uint8Array(100).fill(9), flags: 0x10, sequence: 5, id: 6 };
      const built = buildPacket(options);
      built.bytes.fill(0, built.l3 + (v6 ? 4 : 2), built.l3 + (v6 ? 6 : 4));
      expect(cut(superFrame(built, v6, 40, []))).toEqual(expected(options, 40));
    }
  });

  it("refuses facts that do not fit, and then gives nothing", () => {
    const options: TcpOptions = { payload: new Uint8Array(5000).fill(1) };
    const refused = (change: (frame: Frame, built: Built) => void, o = options): unknown => {
      const built = buildPacket(o);
      const frame = superFrame(built, o.v6 ?? false, 1000, []);
      change(frame, built);
      return cut(frame);
    };
    expect(
      refused((f) => {
        f.gsoSize = 0;
      }),
    ).toBe(Refusal.GSO_SIZE);
    expect(
      refused((f) => {
        f.gsoSize = 7;
      }),
    ).toBe(Refusal.GSO_SIZE);
    expect(
      refused((f) => {
        f.gsoSize = 65536;
      }),
    ).toBe(Refusal.GSO_SIZE);
    expect(
      refused((f) => {
        f.gso = Gso.TCPV6;
      }),
    ).toBe(Refusal.HEADERS);
    expect(
      refused((f) => {
        f.gso = Gso.UDP;
      }),
    ).toBe(Refusal.UNSUPPORTED);
    expect(
      refused((f) => {
        f.gso = Gso.UDP_L4;
      }),
    ).toBe(Refusal.UNSUPPORTED);
    expect(
      refused((f) => {
        f.headerLength = f.length + 1;
      }),
    ).toBe(Refusal.HEADERS);
    expect(
      refused((f) => {
        f.csumStart--;
      }),
    ).toBe(Refusal.CSUM_RANGE);
    expect(
      refused((f) => {
        f.csumOffset = 6;
      }),
    ).toBe(Refusal.CSUM_RANGE);
    expect(
      refused((_f, b) => {
        b.bytes[b.l4 + 13] = 0x12;
      }),
    ).toBe(Refusal.TCP_FLAGS);
    expect(
      refused((_f, b) => {
        b.bytes[b.l4 + 13] = 0x14;
      }),
    ).toBe(Refusal.TCP_FLAGS);
    expect(
      refused((_f, b) => {
        b.bytes[b.l4 + 12] = 0x40;
      }),
    ).toBe(Refusal.HEADERS);
    expect(
      refused((_f, b) => {
        b.bytes[b.l3 + 6] = 0x20;
      }),
    ).toBe(Refusal.HEADERS);
    expect(
      refused((_f, b) => {
        b.bytes[b.l3 + 2] = 0xff;
      }),
    ).toBe(Refusal.HEADERS);
    expect(refused(() => {}, { ...options, protocol: 17 })).toBe(Refusal.HEADERS);

    const full = superFrame(
      buildPacket(options),
      false,
      5000,
      Array.from({ length: 95 }, (_, i) => (i === 0 ? 60 : 1)),
    );
    expect(full.count).toBe(96);
    expect(cut(full)).toBe(Refusal.SPANS);
  });

  it("never throws, whatever facts and bytes a peer makes up", () => {
    holds(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.boolean(),
        fc.nat(0xffff),
        fc.nat(0xffff),
        fc.nat(0xffff),
        cuts,
        (junk, valid, gsoSize, csumStart, csumOffset, spans) => {
          const bytes = valid ? buildPacket({ payload: junk }).bytes : junk;
          // A wrong bit in otherwise valid headers passes more checks than random bytes do.
          if (valid) bytes[12 + (gsoSize % 42)]! ^= 1 << (csumStart % 8);
          const frame = frameOf(bytes, spans);
          Object.assign(frame, { gso: Gso.TCPV4, gsoSize, csumStart, csumOffset, id: 42 });
          cut(frame);
          const h = new Headers();
          h.parse(frame);
          new Segmenter().finish(frame);
        },
      ),
      { numRuns: 3000 },
    );
  });
});

describe("finishing a partial checksum", () => {
  it("gives the complete frame for TCP and UDP, however the input is cut", () => {
    holds(
      fc.property(
        tcp,
        fc.constantFrom(6 as const, 17 as const),
        cuts,
        (options, protocol, spans) => {
          const built = buildPacket({ ...options, protocol });
          const frame = frameOf(built.bytes, spans);
          frame.needsCsum = true;
          frame.csumStart = built.l4;
          frame.csumOffset = protocol === 6 ? 16 : 6;
          const h = new Headers();
          h.parse(frame);
          const done = new Segmenter().finish(frame) as Frame;
          expect([done.needsCsum, done.csumValid]).toEqual([false, true]);
          // The sum over a complete packet is all ones; zero and 0xffff are the same number.
          const bytes = bytesOf(done);
          expect(
            plainSum(pseudoHeader(bytes, built.l3, built.l4, protocol), bytes.subarray(built.l4)),
          ).toBe(0xffff);
          const field = built.l4 + frame.csumOffset;
          expect(bytes[field]! | bytes[field + 1]!).not.toBe(0);
          bytes.set(built.bytes.subarray(field, field + 2), field);
          expect(bytes).toEqual(built.bytes);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("sends UDP's zero as 0xffff", () => {
    const built = buildPacket({ protocol: 17, payload: new Uint8Array(2), checksum: "partial" });
    // Chooses the payload that makes the sum all ones.
    const sum = plainSum(
      pseudoHeader(built.bytes, built.l3, built.l4, 17),
      built.bytes.subarray(built.l4, built.l4 + 6),
    );
    built.bytes[built.payload] = (~sum >>> 8) & 0xff;
    built.bytes[built.payload + 1] = ~sum & 0xff;
    const frame = frameOf(built.bytes, [3]);
    Object.assign(frame, { needsCsum: true, csumStart: built.l4, csumOffset: 6 });
    const h = new Headers();
    h.parse(frame);
    const done = new Segmenter().finish(frame) as Frame;
    const bytes = bytesOf(done);
    expect([bytes[built.l4 + 6], bytes[built.l4 + 7]]).toEqual([0xff, 0xff]);
  });

  it("refuses a field outside the frame, and SCTP's CRC", () => {
    const built = buildPacket({ payload: new Uint8Array(50) });
    const finish = (csumStart: number, csumOffset: number): unknown => {
      const frame = frameOf(built.bytes);
      Object.assign(frame, { needsCsum: true, csumStart, csumOffset });
      const h = new Headers();
      h.parse(frame);
      return new Segmenter().finish(frame);
    };
    expect(finish(built.bytes.length - 1, 0)).toBe(Refusal.CSUM_RANGE);
    expect(finish(65535, 65535)).toBe(Refusal.CSUM_RANGE);
    expect(finish(built.bytes.length - 2, 0)).toBeInstanceOf(Frame);
    built.bytes[built.l3 + 9] = 132;
    expect(finish(built.l4, 8)).toBe(Refusal.UNSUPPORTED);
  });
});

/** A packet that LRO passes on: its bytes and, when merged, the facts of its frame. */
interface Item {
  bytes: Uint8Array;
  merged?: { facts: Facts; segments: number };
}

type Facts = Pick<
  Frame,
  "length" | "gso" | "gsoSize" | "headerLength" | "csumStart" | "csumOffset"
>;

function merge(
  frames: readonly Uint8Array[],
  room = Number.POSITIVE_INFINITY,
  valid = true,
): Item[] {
  const out: Item[] = [];
  const stats = { lro_queued: 0, lro_flushed: 0 };
  const frame = new Frame();
  const ifnet = new Ifnet("ena0", new Uint8Array(6), 1500);
  ifnet.input = (m) => {
    mbufToFrame(m, frame);
    const bytes = bytesOf(frame);
    let segments = 0;
    for (let piece: Mbuf | undefined = m; piece !== undefined; piece = piece.next) segments++;
    const { length, gso, gsoSize, headerLength, csumStart, csumOffset } = frame;
    const facts = { length, gso, gsoSize, headerLength, csumStart, csumOffset };
    out.push(gso === Gso.NONE ? { bytes } : { bytes, merged: { facts, segments } });
  };
  const lro = new LroQueue(stats, ifnet, queueId(0), room + 1);
  // One slab, as in a driver's pool. A packet in other memory is compared by its parsed headers.
  const slab = new Uint8Array(frames.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const [i, bytes] of frames.entries()) {
    slab.set(bytes, at);
    const m = mbufOf(i % 10 === 9 ? Uint8Array.from(bytes) : slab);
    if (m.buffer === slab) m.attach(slab, at, bytes.length, undefined);
    lro.offer(m, valid);
    at += bytes.length;
  }
  lro.flush();
  const merged = out.filter((item) => item.merged !== undefined);
  expect(stats.lro_flushed).toBe(merged.length);
  expect(stats.lro_queued).toBe(frames.length - out.length);
  return out;
}

/** Segments merged packets, as the switch on the far side of a TAP would. */
function cutAgain(items: readonly Item[]): Uint8Array[] {
  return items.flatMap((item) => {
    if (item.merged === undefined) return [item.bytes];
    const { facts } = item.merged;
    expect(facts.length).toBe(item.bytes.length);
    const frame = frameOf(item.bytes);
    Object.assign(frame, { ...facts, length: frame.length, needsCsum: true, id: 42 });
    const h = new Headers();
    expect(h.parse(frame)).toBe(true);
    expect(h.payloadOffset).toBe(facts.headerLength);
    // The field must hold the pseudo-header's sum.
    expect(h.u16(facts.csumStart + facts.csumOffset)).toBe(
      plainSum(pseudoHeader(item.bytes, h.l3Offset, h.l4Offset, 6)),
    );
    const out = cut(frame);
    expect(out).toHaveLength(item.merged.segments);
    return out as Uint8Array[];
  });
}

const flowOf = (bytes: Uint8Array): string => {
  const h = new Headers();
  h.parse(frameOf(bytes));
  return h.l3 === L3.NONE || h.l4 !== L4.TCP ? "other" : `${h.l3} ${h.u16(h.l4Offset)}`;
};

/**
 * A frame without the id of an atomic datagram, which has no meaning (RFC 6864) and need not be
 * restored. The header's checksum must still be right.
 */
function withoutAtomicId(bytes: Uint8Array): Uint8Array {
  const l3 = 14;
  if (bytes[l3]! >>> 4 !== 4 || (bytes[l3 + 6]! & 0x60) !== 0x40) return bytes;
  const header = bytes.subarray(l3, l3 + (bytes[l3]! & 15) * 4);
  const plain = Uint8Array.from(bytes);
  plain.fill(0, l3 + 4, l3 + 6);
  // Compares only whether the checksum is right.
  plain.set([plainSum(header) === 0xffff ? 1 : 0, 0], l3 + 10);
  return plain;
}

/** A burst of several flows, with all packets that end or prevent a merge. */
const step = fc.record({
  flow: fc.nat(11),
  bytes: fc.constantFrom(0, 1, 100, 100, 100, 100, 1448, 1448),
  push: fc.boolean(),
  odd: fc.constantFrom(
    ...Array.from({ length: 8 }, () => "no"),
    "gap",
    "id",
    "fin",
    "ce",
    "ack",
    "options",
    "fragment",
    "ipOptions",
    "udp",
    "padding",
    "badIpSum",
  ),
});

const bursts = fc.array(step, { maxLength: 120 });

describe("merging", () => {
  it("is undone by cutting: the same frames, each flow in its order", () => {
    let supers = 0;
    holds(
      fc.property(
        bursts,
        fc.constantFrom(3, 1000),
        fc.constantFrom(1, 4, 12),
        (steps, room, flows) => {
          const sequence = new Array<number>(12).fill(0xffff_ff00);
          const acknowledgement = new Array<number>(12).fill(9);
          const ids = new Array<number>(12).fill(0xfffc);
          const frames = steps.map((s, n) => {
            const k = s.flow % flows;
            if (s.odd === "gap") sequence[k] = (sequence[k]! + 3) % 2 ** 32;
            if (s.odd === "id") ids[k] = (ids[k]! + 1) % 2 ** 16;
            if (s.odd === "ack") acknowledgement[k]!++;
            const built = buildPacket({
              v6: k % 2 === 1,
              sourcePort: 1000 + k,
              protocol: s.odd === "udp" ? 17 : 6,
              sequence: sequence[k]!,
              acknowledgement: acknowledgement[k]!,
              id: ids[k]!,
              df: k % 4 === 0,
              tos: s.odd === "ce" ? 3 : 2,
              flags:
                TCP_FLAG.ACK |
                (s.push && n % 3 === 0 ? TCP_FLAG.PSH : 0) |
                (s.odd === "fin" ? TCP_FLAG.FIN : 0),
              tcpOptions:
                s.odd === "options"
                  ? new Uint8Array(4).fill(1)
                  : Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2),
              ...(s.odd === "ipOptions" ? { ipOptions: new Uint8Array(4).fill(1) } : {}),
              payload: Uint8Array.from({ length: s.bytes }, (_, i) => i + n),
            });
            sequence[k] = (sequence[k]! + s.bytes) % 2 ** 32;
            ids[k] = (ids[k]! + 1) % 2 ** 16;
            const v4 = k % 2 === 0;
            if (v4 && s.odd === "fragment") built.bytes[built.l3 + 6]! |= 0x20;
            if (v4 && s.odd === "badIpSum") built.bytes[built.l3 + 10]! ^= 1;
            if (s.odd === "padding") return Uint8Array.from([...built.bytes, 0, 0]);
            return built.bytes;
          });
          const items = merge(frames, room);
          supers += items.filter((item) => item.merged !== undefined).length;
          const back = cutAgain(items);
          expect(back).toHaveLength(frames.length);
          for (let k = 0; k < 12; k++) {
            const name = `${k % 2 === 1 ? 6 : 4} ${1000 + k}`;
            const of = (list: readonly Uint8Array[]) =>
              list.filter((bytes) => flowOf(bytes) === name).map(withoutAtomicId);
            expect(of(back)).toEqual(of(frames));
          }
          expect(back.filter((b) => flowOf(b) === "other")).toEqual(
            frames.filter((b) => flowOf(b) === "other"),
          );
        },
      ),
      { numRuns: 300 },
    );
    expect(supers).toBeGreaterThan(100);
  });

  it("fills a super-frame up to 64 KiB and begins another", () => {
    const payload = new Uint8Array(1448).fill(3);
    const frames = Array.from(
      { length: 60 },
      (_, i) =>
        buildPacket({ payload, sequence: i * 1448, id: i, tcpOptions: new Uint8Array(12).fill(1) })
          .bytes,
    );
    const items = merge(frames);
    expect(items.map((item) => item.merged?.segments)).toEqual([45, 15]);
    expect(items[0]!.bytes.length).toBe(14 + 52 + 45 * 1448);
    expect(cutAgain(items)).toEqual(frames);
  });

  it("ends with a push or a short segment, and leaves unverified frames alone", () => {
    const frame = (i: number, length: number, flags = TCP_FLAG.ACK): Uint8Array =>
      buildPacket({ payload: new Uint8Array(length), sequence: i * 100, id: i, flags }).bytes;
    const shape = (items: readonly Item[]) => items.map((item) => item.merged?.segments ?? 1);
    expect(
      shape(merge([frame(0, 100), frame(1, 100, 0x18), frame(2, 100), frame(3, 100)])),
    ).toEqual([2, 2]);
    expect(shape(merge([frame(0, 100), frame(1, 40), frame(2, 100)]))).toEqual([2, 1]);
    expect(shape(merge([frame(0, 40), frame(1, 100)]))).toEqual([1, 1]);
    expect(shape(merge([frame(0, 100, 0x18), frame(1, 100)]))).toEqual([1, 1]);
    expect(shape(merge([frame(0, 100), frame(1, 100)], Infinity, false))).toEqual([1, 1]);
  });
});
