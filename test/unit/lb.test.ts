/** lb: frames of one flow go to one pipe. */
import { describe, expect, test } from "vitest";
import { Control, Counts } from "../../frontend/apps/app.ts";
import { FlowHash } from "../../frontend/apps/lb/flow-hash.ts";
import { Fragments } from "../../frontend/apps/lb/fragments.ts";
import { lb } from "../../frontend/apps/lb.ts";
import { type NmPort, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import { FakeNic } from "../support/fake-netmap-adapter.ts";
import { takeAll } from "../support/netmap-frames.ts";
import { buildPacket, frameOf, type TcpOptions } from "../support/packets.ts";
import { Random, seedOfRun } from "../support/random.ts";

const ETHER = 14;
const PORTS = Array.from({ length: 64 }, (_, i) => 1000 + i);

const udp = (sourcePort: number, more: TcpOptions = {}): Buffer =>
  Buffer.from(
    buildPacket({ protocol: 17, sourcePort, payload: new Uint8Array(1200).fill(7), ...more }).bytes,
  );

/** The datagram in fragments of at most `most` bytes of payload, in order. */
function fragments4(whole: Buffer, id: number, most = 400): Buffer[] {
  const header = Buffer.from(whole.subarray(ETHER, ETHER + 20));
  const data = whole.subarray(ETHER + 20);
  const all: Buffer[] = [];
  for (let at = 0; at < data.length; at += most) {
    const part = data.subarray(at, at + most);
    const ip = Buffer.from(header);
    ip.writeUInt16BE(20 + part.length, 2);
    ip.writeUInt16BE(id, 4);
    ip.writeUInt16BE((at / 8) | (at + most < data.length ? 0x2000 : 0), 6);
    all.push(Buffer.concat([whole.subarray(0, ETHER), ip, part]));
  }
  return all;
}

function fragments6(whole: Buffer, id: number, most = 400): Buffer[] {
  const header = whole.subarray(ETHER, ETHER + 40);
  const data = whole.subarray(ETHER + 40);
  const all: Buffer[] = [];
  for (let at = 0; at < data.length; at += most) {
    const part = data.subarray(at, at + most);
    const ip = Buffer.from(header);
    const fragment = Buffer.alloc(8);
    fragment[0] = ip[6]!;
    ip[6] = 44;
    fragment.writeUInt16BE(at | (at + most < data.length ? 1 : 0), 2);
    fragment.writeUInt32BE(id, 4);
    ip.writeUInt16BE(8 + part.length, 4);
    all.push(Buffer.concat([whole.subarray(0, ETHER), ip, fragment, part]));
  }
  return all;
}

const outerIp = (protocol: number, inner: Buffer): Buffer => {
  const ip = Buffer.alloc(20);
  ip[0] = 0x45;
  ip.writeUInt16BE(20 + inner.length, 2);
  ip[8] = 64;
  ip[9] = protocol;
  ip.set([192, 0, 2, 1, 192, 0, 2, 2], 12);
  return Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]), ip, inner]);
};

/** The frame in GRE, with these flags and their words. `bridged` keeps the Ethernet header. */
const inGre = (frame: Buffer, flags = 0, bridged = false): Buffer => {
  const words = [0x8000, 0x2000, 0x1000].filter((flag) => (flags & flag) !== 0).length;
  const gre = Buffer.alloc(4 + 4 * words, 0xa5);
  gre.writeUInt16BE(flags, 0);
  gre.writeUInt16BE(bridged ? 0x6558 : frame.readUInt16BE(12), 2);
  return outerIp(47, Buffer.concat([gre, bridged ? frame : frame.subarray(ETHER)]));
};

/** The same packet in the other direction: MACs, addresses and ports swapped. */
function reversed(frame: Buffer, l3: number, v6: boolean): Buffer {
  const back = Buffer.from(frame);
  const swap = (a: number, b: number, n: number): void => {
    frame.copy(back, a, b, b + n);
    frame.copy(back, b, a, a + n);
  };
  swap(0, 6, 6);
  if (v6) swap(l3 + 8, l3 + 24, 16);
  else swap(l3 + 12, l3 + 16, 4);
  const l4 = l3 + (v6 ? 40 : 20);
  swap(l4, l4 + 2, 2);
  return back;
}

const flow = new FlowHash();
const hashOf = (frame: Uint8Array, cuts: readonly number[] = []): number => {
  flow.look(frameOf(frame, cuts));
  return flow.hash;
};
/** Number of pipes, of four, that get some of the flows. */
const pipesOf = (frames: readonly Uint8Array[]): number =>
  new Set(frames.map((frame) => hashOf(frame) % 4)).size;

describe("one flow has one hash", () => {
  const plain = (v6: boolean): Buffer => udp(1000, { v6 });
  test.each([false, true])("both ways, and behind tags, IPv6 %s", (v6) => {
    const expected = hashOf(plain(v6));
    expect(hashOf(reversed(plain(v6), ETHER, v6))).toBe(expected);
    const tags = [
      [[0x8100, 5]],
      [
        [0x88a8, 5],
        [0x8100, 6],
      ],
    ] as const;
    for (const some of tags) expect(hashOf(udp(1000, { v6, tags: some }))).toBe(expected);
  });

  test("behind IPv6 extension headers", () => {
    const hopByHop = { kind: 0, bytes: Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0) };
    const options = { kind: 60, bytes: Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0) };
    const extended = udp(1000, { v6: true, extensions: [hopByHop, options] });
    expect(hashOf(extended)).toBe(hashOf(plain(true)));
  });

  test("in a slot of its own for each header", () => {
    expect(hashOf(plain(false), [14, 20, 4, 4])).toBe(hashOf(plain(false)));
    expect(hashOf(inGre(plain(false)), [3, 14, 20, 5])).toBe(hashOf(inGre(plain(false))));
  });

  test("cut behind the ports, as a short snapshot is", () => {
    for (const v6 of [false, true]) {
      const l4 = ETHER + (v6 ? 40 : 20);
      for (const length of [l4 + 4, l4 + 7, l4 + 8, l4 + 100]) {
        expect(hashOf(plain(v6).subarray(0, length))).toBe(hashOf(plain(v6)));
      }
    }
  });

  test("cut before the ports: addresses alone, and before those MAC addresses, without a throw", () => {
    const frame = plain(false);
    for (let length = 0; length < ETHER + 24; length++) {
      const hash = hashOf(frame.subarray(0, length));
      expect(hash % 1, `${hash} of ${length} bytes`).toBe(0);
    }
    const noPorts = (port: number): number => hashOf(udp(port).subarray(0, ETHER + 20));
    expect(noPorts(1)).toBe(noPorts(2));
  });
});

describe("flows inside a tunnel", () => {
  test.each([0, 0x8000, 0x2000, 0x1000, 0xb000])(
    "case-X7 are shared out, GRE flags %i",
    (flags) => {
      for (const v6 of [false, true]) {
        const inner = (port: number): Buffer => udp(port, { v6 });
        expect(pipesOf(PORTS.map((port) => inGre(inner(port), flags)))).toBe(4);
        expect(hashOf(inGre(inner(1000), flags))).toBe(hashOf(inner(1000)));
      }
    },
  );

  test("case-X7 bridged Ethernet in GRE, IPv4 and IPv6 in IP, tunnels in tunnels", () => {
    const expected = hashOf(udp(1000));
    expect(hashOf(inGre(udp(1000), 0, true))).toBe(expected);
    expect(hashOf(outerIp(4, udp(1000).subarray(ETHER)))).toBe(expected);
    expect(hashOf(outerIp(41, udp(1000, { v6: true }).subarray(ETHER)))).toBe(
      hashOf(udp(1000, { v6: true })),
    );
    expect(hashOf(inGre(inGre(udp(1000))))).toBe(expected);
    // Nested deeper than lb parses: one pipe, and nothing is thrown.
    let deep = udp(1000);
    for (let n = 0; n < 20; n++) deep = inGre(deep);
    expect(hashOf(deep)).toBe(hashOf(inGre(inGre(inGre(inGre(inGre(udp(7))))))));
  });

  test("what GRE carries and is no IP, or another version of it, goes by the outer addresses", () => {
    const mpls = Buffer.from(inGre(udp(1000)));
    mpls.writeUInt16BE(0x8847, ETHER + 22);
    const pptp = Buffer.from(inGre(udp(1000)));
    pptp.writeUInt16BE(0x3001, ETHER + 20);
    expect(hashOf(mpls)).toBe(hashOf(pptp));
  });
});

test("many flows reach every pipe, whatever differs in them", () => {
  expect(pipesOf(PORTS.map((port) => udp(port)))).toBe(4);
  const addresses = PORTS.map((n) => {
    const frame = udp(1000);
    // Both addresses change by the same amount, as in a test network, so their difference is
    // constant.
    frame[ETHER + 15] = n & 0xff;
    frame[ETHER + 19] = n & 0xff;
    return frame;
  });
  expect(pipesOf(addresses)).toBe(4);
});

const PIPES = 4;

/**
 * The frames that each pipe gets. All frames are there before lb begins, so that no time passes
 * between them; where `turn` returns true, lb runs a turn in between.
 */
async function sharedOut(frames: readonly Buffer[], turn?: () => boolean): Promise<Uint8Array[][]> {
  const netmap = new Netmap();
  const nic = new FakeNic(netmap, { txSlots: 1024, rxSlots: 1024 });
  netmap.reserve(["netmap:fake0", "netmap:fake0{0", "netmap:fake0{1", "netmap:fake0{2"]);
  const input = await nmOpen("netmap:fake0", { netmap });
  const outputs: NmPort[] = [];
  const ends: NmPort[] = [];
  for (let k = 0; k < PIPES; k++) {
    outputs.push(await nmOpen(`netmap:fake0{${k}`, { netmap }));
    ends.push(await nmOpen(`netmap:fake0}${k}`, { netmap }));
  }
  const got: Uint8Array[][] = Array.from({ length: PIPES }, () => []);
  const collect = (): void => {
    for (const [k, end] of ends.entries()) {
      end.rxsync();
      got[k]!.push(...takeAll(end, end.rxRing(0)));
      end.rxsync();
    }
  };
  const counts = Array.from({ length: PIPES + 1 }, () => new Counts());
  const control = new Control();
  const begin = (): Promise<void> => lb(input, outputs, 64, counts, control);
  let running = turn === undefined ? undefined : begin();
  for (const frame of frames) {
    nic.inject(0, frame);
    if (turn?.() !== true) continue;
    await new Promise((resolve) => setImmediate(resolve));
    collect();
  }
  running ??= begin();
  while (counts[0]!.packets < frames.length || got.flat().length < frames.length) {
    await new Promise((resolve) => setImmediate(resolve));
    collect();
  }
  control.stop();
  await running;
  collect();
  expect(counts[0]!.packets).toBe(frames.length);
  for (const port of [...ends, ...outputs, input]) await port.close();
  return got;
}

/** The pipe that got each frame, by its bytes; -1 for none. */
const pipeOf = (got: readonly Uint8Array[][], frame: Buffer): number =>
  got.findIndex((frames) => frames.some((some) => frame.equals(some)));

describe("fragments", () => {
  test("wait for the first of their datagram, within bounds", () => {
    const given: [number, number][] = [];
    const fragments = new Fragments((hash, bytes) => given.push([hash, bytes[0]!]));
    fragments.hold(1, 2, 9, Uint8Array.of(1), 0);
    fragments.hold(3, 4, 9, Uint8Array.of(2), 0);
    expect(fragments.find(1, 2, 0)).toBe(-1);
    fragments.remember(1, 2, 77, 10);
    expect(given).toEqual([[77, 1]]);
    expect(fragments.find(1, 2, 5000)).toBe(77);
    expect(fragments.find(1, 2, 5011)).toBe(-1);
    fragments.expire(499);
    expect(fragments.heldCount).toBe(1);
    fragments.expire(500);
    expect(given).toEqual([
      [77, 1],
      [9, 2],
    ]);
    for (let n = 0; n < 1000; n++) fragments.hold(n, 0, 5, Uint8Array.of(3), 600);
    expect(fragments.heldCount).toBe(256);
    expect(given.length).toBe(2 + 1000 - 256);
  });

  test("case-X8 a copy of many slots that waited comes out whole, as one packet", async () => {
    const payload = new Uint8Array(9000).map((_, i) => i * 7);
    for (const most of [4400, 8800]) {
      const cut = fragments4(udp(1000, { payload }), 1, most);
      const got = await sharedOut(cut.toReversed());
      expect(new Set(cut.map((frame) => pipeOf(got, frame))).size).toBe(1);
      expect(pipeOf(got, cut[0]!)).toBeGreaterThanOrEqual(0);
      expect(got.flat().length).toBe(cut.length);
    }
  });

  // A datagram in fragments, each in a tunnel; one tunnel packet is fragmented again. Only the
  // first piece of the first fragment has ports.
  const nested = (port: number) => {
    const whole = udp(port);
    const [first, ...later] = fragments4(whole, port).map((frame) => inGre(frame));
    const [head, tail] = later;
    return { whole, first: first!, head: head!, tail: tail! };
  };
  const onePipe = (got: readonly Uint8Array[][], frames: readonly Buffer[]): void => {
    expect(new Set(frames.map((frame) => pipeOf(got, frame))).size).toBe(1);
    expect(pipeOf(got, frames[0]!)).toBeGreaterThanOrEqual(0);
  };

  const FLOWS = PORTS.slice(0, 16);

  test.each(["whole", "in fragments of its own"])(
    "case-X7, case-X8 the first fragment in a tunnel, %s, is known to those that come after it",
    async (how) => {
      const flows = FLOWS.map((port) => {
        const { whole, first, head, tail } = nested(port);
        const pieces = how === "whole" ? [first] : fragments4(first, port, 200);
        return [whole, ...pieces, ...fragments4(head, port + 1000, 200), tail];
      });
      const got = await sharedOut(flows.flat());
      for (const flow of flows) onePipe(got, flow);
    },
  );

  test.each(["first to last", "last to first"])(
    "case-X7, case-X8 a tunnel's fragments, %s, follow one that waited for what is inside",
    async (order) => {
      const flows = FLOWS.map((port) => {
        const { whole, first, head, tail } = nested(port);
        const cut = fragments4(head, port, 200);
        const pieces = order === "last to first" ? cut.toReversed() : cut;
        return { pieces, all: [whole, ...pieces, tail, first] };
      });
      const got = await sharedOut(flows.flatMap(({ all }) => all));
      for (const { all } of flows) onePipe(got, all);
      // The first fragment of the inner datagram is missing, and the others still go to one pipe.
      const alone = await sharedOut(flows.flatMap(({ pieces }) => pieces));
      for (const { pieces } of flows) onePipe(alone, pieces);
    },
  );

  const seed = seedOfRun();
  test.each(["first to last", "last to first", "in any order"])(
    `case-X8 fragments of a flow and its whole datagrams are in one pipe, %s (seed ${seed})`,
    async (order) => {
      const random = new Random(seed);
      // Frames carry their flow in the destination MAC, which no hash of IP reads.
      const all: Buffer[] = [];
      let id = 1;
      for (let n = 0; n < 24; n++) {
        const v6 = n % 3 === 0;
        const destination = [2, 0, 0, 0, 9, n];
        const whole = udp(1000 + n, { v6, destination });
        const cut = v6 ? fragments6(whole, 0x10000 + id++) : fragments4(whole, id++);
        const tunnel = inGre(udp(1000 + n, { destination }));
        tunnel.set(destination, 0);
        const inTunnel = fragments4(tunnel, id++);
        const ordered = (list: Buffer[]): Buffer[] =>
          order === "last to first" ? list.toReversed() : list;
        all.push(whole, ...ordered(cut), whole);
        if (!v6) all.push(...ordered(inTunnel));
      }
      if (order === "in any order") {
        for (let i = all.length - 1; i > 0; i--) {
          const j = random.below(i + 1);
          [all[i], all[j]] = [all[j]!, all[i]!];
        }
      }
      const got = await sharedOut(all, () => random.oneIn(3));
      const pipesOfFlow = Array.from({ length: 24 }, (_, n) =>
        got.flatMap((frames, k) => (frames.some((f) => f[5] === n) ? [k] : [])),
      );
      expect(pipesOfFlow.map((list) => list.length)).toEqual(new Array(24).fill(1));
      expect(new Set(pipesOfFlow.flat()).size).toBe(PIPES);
    },
  );
});
