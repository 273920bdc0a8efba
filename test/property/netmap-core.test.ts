/**
 * Random steps against rules that always hold: no buffer is lost or in two places, every accepted
 * frame comes out once, whole and in order, and invalid values in a ring harm only its own port.
 *
 * netmap's own randomised tests (utils/randomized_tests over utils/tests) run its 27 integration
 * tests with random lengths, counts and fill bytes; the first property here does the same for pipes
 * and VALE ports, and also cuts frames into slots at random. The single behaviours are unit tests:
 *
 *   001 002 exclusive VALE ports, ephemeral, persistent   netmap-vale, netmap-register
 *   003     exclusive pipe                                netmap-pipe
 *   004-006 extra buffers through VALE and pipes          netmap-vale, netmap-pipe
 *   007     learning                                      netmap-vale
 *   008     partial read of a pipe                        netmap-pipe
 *   009-011 persistent ports: destroy, double attach, double create   netmap-vale
 *   012-020 copy and zero-copy monitors, receive, and copy, send      netmap-monitor
 *   021-024 send and receive: VALE, pipe, veth (here: emulated)       netmap-vale, -pipe, -emulated
 *   025-027 zero-copy monitors, send                      netmap-monitor
 *
 * Of utils/ctrl-api-test.c: names, registration modes, host rings, single pairs, VALE attach and
 * detach, headers, persistent ports, pipes, null ports and extra buffers are unit tests. Not
 * applicable: nmreq bodies, options and their lists (no ioctl here), the legacy API, external
 * memory, CSB mode and sync-kloop (both for hypervisors), VALE polling (kernel threads), pools info
 * (one object, `adapter.memory`, shows it).
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { NetmapAdapter } from "../../frontend/netmap/adapter.ts";
import { adapterOf, type NmPort, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { Poll, Txrx } from "../../frontend/netmap/flags.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import type { NetmapRing } from "../../frontend/netmap/ring.ts";
import { holds } from "../support/counts.ts";
import { FakeNic } from "../support/fake-netmap-adapter.ts";
import { ethernet, putFrame, takeFrame } from "../support/netmap-frames.ts";
import { sameBytes } from "../support/same.ts";

const sizes = {
  ifs: { count: 40, bytes: 1024 },
  rings: { count: 80, bytes: 4096 },
  buffers: { count: 1200, bytes: 256 },
};

function numbered(n: number, length: number): Buffer {
  const frame = Buffer.from(ethernet(0xff, 1, length, n & 0xff));
  frame.writeUInt32BE(n, 14);
  return frame;
}

describe("frames", () => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constant("put" as const),
      length: fc.integer({ min: 20, max: 900 }),
      piece: fc.integer({ min: 14, max: 256 }),
    }),
    fc.record({ kind: fc.constant("txsync" as const) }),
    fc.record({ kind: fc.constant("rxsync" as const) }),
    fc.record({ kind: fc.constant("take" as const), count: fc.integer({ min: 1, max: 9 }) }),
    fc.record({ kind: fc.constant("poll" as const) }),
  );

  test.each([
    ["pipe", "netmap:p{1", "netmap:p}1", 16],
    ["VALE", "vale0:a", "vale0:b", 64],
  ])("%s: what is sent comes, whole, in order, once", async (kind, from, to, slots) => {
    await holds(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 120 }), async (steps) => {
        const netmap = new Netmap({ memory: sizes });
        const a = await nmOpen(from, { netmap, txSlots: slots, rxSlots: slots });
        const b = await nmOpen(to, { netmap, txSlots: slots, rxSlots: slots });
        const tx = a.txRing(0);
        const rx = b.rxRing(0);
        const sent: Buffer[] = [];
        const got: Uint8Array[] = [];
        const take = (n: number): void => {
          for (let i = 0; i < n; i++) {
            const frame = takeFrame(b, rx);
            if (frame === undefined) break;
            got.push(frame);
          }
        };
        for (const s of steps) {
          if (s.kind === "put") {
            const frame = numbered(sent.length, s.length);
            if (putFrame(a, tx, frame, s.piece)) sent.push(frame);
          } else if (s.kind === "txsync") a.txsync();
          else if (s.kind === "rxsync") b.rxsync();
          else if (s.kind === "take") take(s.count);
          else b.look(Poll.IN);
        }
        for (let i = 0; i < 2 * slots; i++) {
          a.txsync();
          b.rxsync();
          take(slots);
        }
        // VALE drops and counts a frame that finds no room; a pipe never drops.
        if (kind === "pipe") expect(got).toEqual(sent);
        else {
          const drops = (adapterOf(a) as unknown as { drops: { full: number } }).drops.full;
          const indexes = got.map((f) => Buffer.from(f).readUInt32BE(14));
          expect(indexes).toEqual([...new Set(indexes)].sort((x, y) => x - y));
          for (const f of got) expect(f).toEqual(sent[Buffer.from(f).readUInt32BE(14)]);
          expect(got.length + drops).toBe(sent.length);
        }
        await a.close();
        await b.close();
        expect(adapterOf(a).memory.badFrees).toBe(0);
      }),
      { numRuns: 200 },
    );
  });
});

describe("buffers", () => {
  const names = [
    "netmap:fake0",
    "netmap:fake0-0",
    "netmap:fake0-1",
    "netmap:fake0^",
    "netmap:fake0*",
    "netmap:fake0/x",
    "netmap:fake0/z",
    "netmap:fake0/rt",
    "netmap:fake0{1",
    "netmap:fake0}1",
    "netmap:fake0{2",
    "netmap:fake0{1/z",
  ];
  const step = fc.oneof(
    fc.record({ kind: fc.constant("open" as const), name: fc.constantFrom(...names) }),
    fc.record({ kind: fc.constant("close" as const), port: fc.nat(30) }),
    fc.record({ kind: fc.constant("traffic" as const), port: fc.nat(30), n: fc.nat(12) }),
    fc.record({ kind: fc.constant("inject" as const), ring: fc.nat(1), n: fc.nat(12) }),
    fc.record({ kind: fc.constant("sync" as const), port: fc.nat(30) }),
  );

  test("open, close, traffic and monitors in any order: each buffer in one place, none lost", async () => {
    await holds(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), async (steps) => {
        const netmap = new Netmap({ memory: sizes });
        const nic = new FakeNic(netmap, { txRings: 2, rxRings: 2 });
        const ports: NmPort[] = [];
        const at = (i: number): NmPort | undefined => ports[i % Math.max(1, ports.length)];
        for (const s of steps) {
          if (s.kind === "open") {
            const port = await nmOpen(s.name, { netmap }).catch((e: { code: string }) => {
              expect(["EBUSY", "EINVAL", "ENOMEM"]).toContain(e.code);
            });
            if (port !== undefined) ports.push(port);
          } else if (s.kind === "close" && ports.length > 0) {
            await ports.splice(s.port % ports.length, 1)[0]!.close();
          } else if (s.kind === "traffic") traffic(at(s.port), s.n);
          else if (s.kind === "inject") {
            for (let i = 0; i < s.n; i++) nic.inject(s.ring, numbered(i, 60));
          } else if (s.kind === "sync") sync(at(s.port));
          expectConserved(netmap, ports);
        }
        for (const port of ports.splice(0)) await port.close();
        const { memory } = netmap;
        expect([memory.active, memory.badFrees, nic.na.refs]).toEqual([0, 0, 1]);
      }),
      { numRuns: 150 },
    );
  });

  function sync(port: NmPort | undefined): void {
    port?.txsync();
    port?.rxsync();
  }

  function traffic(port: NmPort | undefined, n: number): void {
    if (port === undefined) return;
    for (const ring of port.txRings()) {
      // Monitors send nothing.
      if (port.name.includes("/z") || port.name.includes("/rt")) break;
      for (let i = 0; i < n; i++) putFrame(port, ring, numbered(i, 60));
    }
    sync(port);
    for (const ring of port.rxRings()) for (let i = 0; i < n; i++) takeFrame(port, ring);
    sync(port);
  }

  /** The adapter of a port and, for a pipe, the adapter of the other end. */
  function withPeer(port: NmPort): (NetmapAdapter | undefined)[] {
    const na: NetmapAdapter & { readonly peer?: NetmapAdapter } = adapterOf(port);
    return [na, na.peer];
  }

  /**
   * Expects each buffer in one slot that has an owner. The two rings of a pipe share their slots.
   */
  function expectConserved(netmap: Netmap, ports: readonly NmPort[]): void {
    const { memory } = netmap;
    const rings = new Set<NetmapRing>();
    for (const port of ports) {
      const adapters = withPeer(port);
      for (const na of adapters) {
        for (const t of [Txrx.RX, Txrx.TX]) {
          for (const kring of na?.krings(t) ?? []) {
            if (kring.ring === undefined || na?.memory !== memory) continue;
            // Of each pair of pipe rings, one is enough: it covers its own slots and its peer's.
            if (kring.pipe !== undefined && kring.tx === Txrx.RX) continue;
            rings.add(kring.ring);
          }
        }
      }
    }
    let slots = 0;
    for (const ring of rings) slots += ring.numSlots;
    expect(memory.objTotal - 2 - memory.buffers.objFree).toBe(slots);
    const seen = new Set<number>();
    for (const port of ports) {
      for (const na of withPeer(port)) {
        if (na === undefined || na.memory !== memory) continue;
        for (const t of [Txrx.RX, Txrx.TX]) {
          for (const kring of na.krings(t)) {
            const { ring } = kring;
            if (ring === undefined || kring.pipe !== undefined || !rings.delete(ring)) continue;
            for (let i = 0; i < ring.numSlots; i++) {
              const index = ring.bufIdx(i);
              expect(memory.isBuffer(index) && !memory.buffers.isFree(index)).toBe(true);
              expect(seen.has(index)).toBe(false);
              seen.add(index);
            }
          }
        }
      }
    }
  }
});

describe("nonsense from the application", () => {
  const wild = fc.oneof(fc.nat(10), fc.constantFrom(0xffff_ffff, 0x8000_0000, 7, 8, 9));
  const poke = fc.record({
    tx: fc.boolean(),
    field: fc.constantFrom("head", "cur", "tail", "bufIdx", "len", "flags"),
    slot: fc.nat(7),
    value: wild,
  });

  test.each(["netmap:fake0*", "netmap:p{1", "vale0:a", "netmap:plain0*"])(
    "%s: any words in its rings: no throw, no other port's buffer touched, and it can recover",
    async (name) => {
      await holds(
        fc.asyncProperty(fc.array(poke, { minLength: 1, maxLength: 60 }), async (pokes) => {
          const netmap = new Netmap({ memory: sizes, emulated: { slots: 8, rings: 1 } });
          const nic = new FakeNic(netmap, { rxBufMaxsize: 256 });
          // The native adapter belongs to another module, so here the interface is emulated.
          const { ifnet } = new FakeNic(new Netmap(), { name: "plain0", mtu: 200 });
          netmap.addInterface(ifnet);
          const bystander = await nmOpen("netmap:fake0", { netmap });
          const pipe = await nmOpen("netmap:p}1", { netmap, txSlots: 8, rxSlots: 8 });
          const port = await nmOpen(name, { netmap, txSlots: 8, rxSlots: 8 });
          const guard = await nmOpen("netmap:guard{1", { netmap, extraBufs: 2 });
          const extra = guard.takeExtra();
          guard.buffer(extra).fill(0x5a);
          for (const p of pokes) {
            const ring = p.tx ? port.txRings()[0]! : port.rxRings()[0]!;
            const slot = p.slot % ring.numSlots;
            if (p.field === "bufIdx") ring.setBufIdx(slot, p.value);
            else if (p.field === "len") ring.setLen(slot, p.value);
            else if (p.field === "flags") ring.setSlotFlags(slot, p.value);
            else ring[p.field] = p.value;
            nic.inject(0, numbered(1, 600));
            port.txsync();
            port.rxsync();
            port.look(Poll.IN | Poll.OUT);
            for (const t of [port.txRings()[0]!, port.rxRings()[0]!]) {
              expect(t.tail).toBeLessThan(t.numSlots);
            }
          }
          const kept = guard.buffer(extra);
          sameBytes(kept, new Uint8Array(kept.length).fill(0x5a));
          guard.giveExtra(extra);
          for (const p of [port, bystander, pipe, guard]) await p.close();
          expect(netmap.memory.active).toBe(0);
        }),
        { numRuns: 100 },
      );
    },
  );
});
