/**
 * Backends that lie to netfront: the subjects of Xen's advisories and of Linux's `broken` latch,
 * from the frontend's side. Whatever the backend does, the process continues, nothing is used
 * twice, and the NIC recovers with the next connection.
 */
import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import type { Mbuf } from "../../frontend/net/mbuf.ts";
import { getMapGref } from "../../frontend/xen/pool.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { busAddress, RecordType, Space } from "../../shared/wire/records.ts";
import { XsType, xsMessage, xsStrings } from "../../shared/xen/xenstore.ts";
import { holds } from "../support/counts.ts";
import { frame, MAC } from "../support/nic-frames.ts";
import { buildPacket } from "../support/packets.ts";
import { LAZY_MS, XenPair } from "../support/pair.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { sameBytes } from "../support/same.ts";
import { referencesInUse, rxMaps, txMaps, violations } from "../support/xen-invariants.ts";

const RSP_PROD = 8;
/** NETRXF_csum_blank. */
const CSUM_BLANK = 2;

const u32 = (n: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, n, true);
  return bytes;
};

/** The rogue backend writes a word into a ring's page and notifies. */
function writeRing(pair: XenPair, reference: number, offset: number, bytes: Uint8Array): void {
  expect(pair.hostileWrite(reference, offset, bytes)).toBe(true);
  pair.hypervisor.onEvent(pair.txq().port);
  pair.driver.batchApplied();
}

/** Connects another device: frames pass both ways, and all resources are accounted for. */
async function recovers(pair: XenPair): Promise<void> {
  pair.tamper = undefined;
  pair.onInput = undefined;
  pair.cut();
  expect(referencesInUse(pair)).toBe(0);
  await pair.reconnect();
  expect(pair.info.broken).toBeUndefined();
  expect(violations(pair)).toEqual([]);
  const sent = pair.segment.length;
  const received = pair.inputs.length;
  expect(pair.send(frame(100))).toBe(0);
  pair.inject(frame(100, 1, MAC));
  pair.flushPort();
  await pair.settle();
  expect(pair.segment.length).toBe(sent + 1);
  expect(pair.inputs.length).toBe(received + 1);
}

describe("a backend that makes no sense stops the NIC, by name, until the next connection", () => {
  const lies: readonly [string, string, (pair: XenPair) => void][] = [
    [
      "more tx responses than requests",
      "TX_RESPONSES",
      (pair) => writeRing(pair, pair.txq().ring!.reference, RSP_PROD, u32(1)),
    ],
    [
      "a tx producer index that goes backwards",
      "TX_RESPONSES",
      (pair) => writeRing(pair, pair.txq().ring!.reference, RSP_PROD, u32(0xffffffff)),
    ],
    [
      "more rx responses than requests",
      "RX_RESPONSES",
      (pair) => writeRing(pair, pair.rxq().ring!.reference, RSP_PROD, u32(257)),
    ],
    [
      "a response to extra info that was never sent",
      "TX_NULL",
      (pair) => {
        pair.send(frame(100));
        pair.driver.batchApplied();
        pair.pump();
        pair.clock.hurry(LAZY_MS);
        pair.pump();
        pair.send(frame(100));
        pair.driver.batchApplied();
        const ring = pair.txq().ring!;
        pair.hostileWrite(ring.reference, 64 + 12 * 1, Uint8Array.of(1, 0, 1, 0));
        writeRing(pair, ring.reference, RSP_PROD, u32(2));
      },
    ],
    [
      "one request answered twice",
      "TX_ID",
      (pair) => {
        pair.send(frame(100));
        pair.send(frame(100));
        pair.driver.batchApplied();
        const ring = pair.txq().ring!;
        const [first] = [1];
        for (const slot of [0, 1]) {
          pair.hostileWrite(ring.reference, 64 + 12 * slot, Uint8Array.of(first, 0, 0, 0));
        }
        writeRing(pair, ring.reference, RSP_PROD, u32(2));
      },
    ],
  ];
  test.each(lies)("%s", async (_, reason, lie) => {
    const pair = await XenPair.started();
    lie(pair);
    expect(pair.info.broken).toBe(reason);
    expect(pair.linkStates.at(-1)).toBe(false);
    expect(violations(pair)).toEqual([]);
    expect(pair.driver.counters()["broken_reason"]).toBe(reason);
    // The state is final: netfront ignores everything that follows.
    const before = pair.inputs.length;
    for (let i = 0; i < 10; i++) pair.hypervisor.onEvent(1);
    pair.driver.batchApplied();
    await pair.second();
    expect(pair.inputs.length).toBe(before);
    expect(pair.info.broken).toBe(reason);
    await recovers(pair);
  });
});

test("fault-E9 XSA-155 a slot is read once: what changes after that changes nothing", async () => {
  const pair = await XenPair.started();
  const ring = pair.rxq().ring!;
  pair.onInput = (m: Mbuf) => {
    // The stack has the packet. The backend now rewrites its response, then the page.
    pair.hostileWrite(ring.reference, 64 + 6, Uint8Array.of(0xff, 0x0f));
    expect(m.pktLength).toBe(100);
    expect(m.length).toBe(100);
    m.free();
  };
  for (let i = 0; i < 3; i++) pair.inject(frame(100, i, MAC));
  pair.flushPort();
  await pair.settle();
  expect(pair.inputs.map((input) => input.bytes.length)).toEqual([100, 100, 100]);
});

describe("a blank checksum in a packet that is cut short", () => {
  const kinds: readonly [string, 6 | 17, boolean][] = [
    ["TCP over IPv4", 6, false],
    ["UDP over IPv4", 17, false],
    ["TCP over IPv6", 6, true],
    ["UDP over IPv6", 17, true],
  ];
  test.each(kinds)(
    "%s, at every byte: its place is in the packet, or it is dropped",
    async (...kind) => {
      const [, protocol, v6] = kind;
      const pair = await XenPair.started();
      pair.tamper = (act) => {
        if (act.kind === "write" && act.type === RecordType.XEN_RX_RSP) {
          const view = new DataView(act.bytes.buffer, act.bytes.byteOffset);
          for (let at = 0; at < act.bytes.length; at += 8) view.setUint16(at + 4, CSUM_BLANK, true);
        }
        return [act];
      };
      const { bytes } = buildPacket({ protocol, v6, payload: frame(20), destination: MAC });
      let whole = 0;
      pair.onInput = (m) => {
        expect(m.csumStart + m.csumOffset + 2).toBeLessThanOrEqual(m.pktLength);
        if (m.pktLength === bytes.length) whole++;
        m.free();
      };
      for (let length = 14; length <= bytes.length; length++) pair.inject(bytes.slice(0, length));
      pair.flushPort();
      await pair.settle();
      expect(whole).toBe(1);
      const { bad_csum: dropped } = pair.info.rxStats[0]!;
      expect(dropped + pair.inputs.length).toBe(bytes.length - 13);
      expect(pair.driver.ifnet.counters.ierrors).toBe(dropped);
    },
  );
});

describe("XSA-391", () => {
  test("XSA-391 events without work are throttled, more and more, and only while there is none", async () => {
    const pair = await XenPair.started();
    const { events } = pair.info;
    const { port } = pair.txq();
    for (let i = 0; i < 10_000; i++) pair.hypervisor.onEvent(port);
    // Sixteen spurious events are free; the next one masks the port.
    expect(events.counters.spurious).toBe(17);
    expect(events.counters.throttled).toBe(10_000 - 17);
    expect(events.masked).toBe(1);
    // After each wait one event is handled, and the next wait is twice as long.
    let looked = 0;
    for (let ms = 1; ms <= 1000; ms++) {
      pair.clock.advance(1);
      const before = events.counters.spurious;
      pair.driver.batchApplied();
      looked += events.counters.spurious - before;
      pair.hypervisor.onEvent(port);
    }
    expect(looked).toBeLessThan(12);
    // An event with work is still noticed, and unmasks the port.
    pair.inject(frame(100, 1, MAC));
    pair.flushPort();
    await pair.settle();
    expect(pair.inputs).toHaveLength(1);
  });

  test("XSA-391 an honest burst is never throttled", async () => {
    const pair = await XenPair.started();
    for (let i = 0; i < 2000; i++) {
      pair.inject(frame(60, i, MAC));
      pair.flushPort();
      pair.pump();
    }
    expect(pair.inputs).toHaveLength(2000);
    expect(pair.info.events.counters.throttled).toBe(0);
  });

  test("XSA-391 events of ports that are nobody's cost a counter", async () => {
    const pair = await XenPair.started();
    for (let port = 0; port < 4096; port++) {
      if (port !== pair.txq().port) pair.hypervisor.onEvent(port);
    }
    expect(pair.info.events.counters.stray).toBe(4095);
  });

  const watched: readonly [string, string][] = [
    ["/local/domain/0/backend/vif/1/0/state", "w2"],
    ["control/shutdown", "w1"],
  ];
  test.each(watched)(
    "a storm of watch events of %s makes one look at a time (XSA-349)",
    async (path, token) => {
      const pair = await XenPair.started();
      const before = pair.sent.length;
      const event = xsMessage(XsType.WATCH_EVENT, 0, 0, xsStrings(path, token));
      const looks = () => pair.sent.slice(before).filter((act) => act.kind === "xenstore").length;
      for (let i = 0; i < 1000; i++) pair.hypervisor.onXenstore(event, 0, event.length);
      await Promise.resolve();
      expect(looks()).toBeLessThanOrEqual(1);
      await pair.settle();
      expect(looks()).toBeLessThanOrEqual(2);
      expect(looks()).toBeGreaterThan(0);
      expect(pair.info.carrier).toBe(true);
    },
  );

  test("fault-G4: a backend that flaps is followed some times a second, and at its last word", async () => {
    const log = new RecordingLog();
    const pair = await XenPair.started({ log });
    const { machine } = pair;
    const before = pair.counter("connects");
    for (let i = 0; i < 100; i++) {
      for (const state of ["5", "1"]) {
        machine.store.write("/local/domain/0/backend/vif/1/0/state", state);
        machine.settle();
        await pair.settle();
      }
    }
    expect(pair.counter("connects") - before).toBeGreaterThan(0);
    expect(pair.counter("connects") - before).toBeLessThan(10);
    const closed = log.warnings.filter((line) => line.endsWith("closed the NIC"));
    expect(closed.length + log.errors.length).toBeLessThan(12);
    await pair.second();
    await pair.second();
    expect(pair.info.carrier).toBe(true);
    expect(violations(pair)).toEqual([]);
  });

  test("a state that flaps while a step is under way makes one step after it (XSA-349)", async () => {
    const pair = await XenPair.started();
    const { info } = pair;
    const { promise, resolve } = Promise.withResolvers<void>();
    const held = info.lock.run(() => promise);
    const steps = vi.spyOn(info.lock, "run");
    for (let i = 0; i < 1000; i++) info.xenbus.onOtherend(i % 2 === 0 ? 2 : 4);
    expect(steps).toHaveBeenCalledTimes(1);
    resolve();
    await held;
    await pair.settle();
    info.xenbus.onOtherend(4);
    expect(steps).toHaveBeenCalledTimes(2);
    expect(info.carrier).toBe(true);
  });
});

describe("XSA-396", () => {
  test("XSA-396 a page returned while in use is not used again, its packet not freed", async () => {
    const pair = await XenPair.started();
    pair.send(frame(100));
    const [map] = txMaps(pair.txq());
    const reference = getMapGref(map!);
    pair.hypervisor.onGrantUse(reference, 1, 0);
    await pair.settle();
    expect(pair.info.broken).toBe("TX_GRANT_IN_USE");
    expect(pair.outstanding).toBe(1);
    // The buffer is not freed at a detach either, only when the use ends.
    await pair.run(pair.driver.detach());
    await pair.settle();
    expect(pair.outstanding).toBe(1);
    expect(pair.info.grants.quarantined).toBe(1);
    pair.hypervisor.onGrantUse(reference, -1, 0);
    expect(pair.outstanding).toBe(0);
    expect(referencesInUse(pair)).toBe(0);
  });

  test("XSA-396 a backend that goes and uses every page: kept, in a few lines of the log", async () => {
    const log = new RecordingLog();
    const pair = await XenPair.started({ log });
    for (const map of rxMaps(pair.rxq())) pair.hypervisor.onGrantUse(getMapGref(map), 0, 1);
    await pair.run(pair.driver.detach());
    expect(pair.info.grants.quarantined).toBeGreaterThanOrEqual(256);
    expect(log.warnings.length).toBeLessThan(20);
    pair.cut();
    expect(referencesInUse(pair)).toBe(0);
  });

  test("XSA-396 a receive page likewise: the stack never sees it", async () => {
    const pair = await XenPair.started();
    const map = pair.rxq().maps[0]!;
    pair.hypervisor.onGrantUse(getMapGref(map), 1, 1);
    pair.inject(frame(100, 1, MAC));
    pair.flushPort();
    await pair.settle();
    expect(pair.info.broken).toBe("RX_GRANT_IN_USE");
    expect(pair.inputs).toEqual([]);
    expect(rxMaps(pair.rxq())).toContain(map);
    expect(violations(pair)).toEqual([]);
    await recovers(pair);
  });

  test("XSA-396 a ring page in use outlives its ring, and nothing is granted twice", async () => {
    const pair = await XenPair.started();
    const { reference } = pair.rxq().ring!;
    // The backend has closed, but the page has one more use that it will not end.
    pair.hypervisor.onGrantUse(reference, 1, 1);
    await pair.run(pair.driver.detach());
    await pair.settle();
    expect(pair.info.grants.quarantined).toBe(1);
    expect(pair.hostileWrite(reference, RSP_PROD, u32(3))).toBe(true);
    pair.hypervisor.onGrantUse(reference, -1, -1);
    expect(pair.hostileWrite(reference, RSP_PROD, u32(3))).toBe(false);
    expect(referencesInUse(pair)).toBe(0);
  });
});

const pageOf = (m: Mbuf): Uint8Array => m.buffer.subarray(m.clusterAt, m.clusterAt + 4096);

describe("XSA-403", () => {
  test("XSA-403 pages are zero when they are granted first", async () => {
    const pair = await XenPair.started({ queues: 2 });
    const zeros = new Uint8Array(4096);
    for (const rxq of pair.info.rxqs) {
      for (const m of rxq.mbufs) sameBytes(m === undefined ? zeros : pageOf(m), zeros);
    }
  });

  test("XSA-403 what one backend wrote is not shown to the next", async () => {
    const pair = await XenPair.started();
    for (let i = 0; i < 600; i++) {
      pair.inject(new Uint8Array(1000).fill(0xaa).map((b, k) => (k < 6 ? MAC[k]! : b)));
      pair.flushPort();
      if (i % 50 === 0) await pair.settle();
    }
    await pair.settle();
    const dirty = (): boolean =>
      pair.rxq().mbufs.some((m) => m !== undefined && pageOf(m).includes(0xaa));
    expect(dirty()).toBe(true);
    pair.cut();
    await pair.reconnect();
    expect(dirty()).toBe(false);
    // The pool doesn't reuse dirty pages either, not even pages that were not posted when the link
    // broke.
    const held: Mbuf[] = [];
    pair.onInput = (m) => held.push(m);
    for (let i = 0; i < 300; i++) {
      pair.inject(frame(60, 1, MAC));
      pair.flushPort();
      if (i % 50 === 0) await pair.settle();
    }
    await pair.settle();
    expect(dirty()).toBe(false);
  });

  test("fault-E10 XSA-403 a neighbour of what is sent, in the same page, is not shown", async () => {
    const pair = await XenPair.started();
    const storage = new Uint8Array(4096).fill(0x5e);
    storage.set(frame(100), 200);
    const m = pair.mbuf(storage.subarray(200, 300));
    expect(pair.driver.ifnet.send(m)).toBe(0);
    const [map] = txMaps(pair.txq());
    const base = busAddress(getMapGref(map!) * 4096);
    expect(pair.space.deviceRead(Space.GRANT, base, 100)?.length).toBe(100);
    expect(pair.space.deviceRead(Space.GRANT, base, 101)).toBeUndefined();
    expect(pair.space.deviceRead(Space.GRANT, busAddress(base + 100), 1)).toBeUndefined();
  });
});

test("XSA-405 a buffer has one owner: what was freed is never written, nor freed again", async () => {
  const pair = await XenPair.started();
  const { info } = pair;
  // The backend sends errors of every kind, while the stack keeps some packets and frees others.
  const held: Mbuf[] = [];
  pair.onInput = (m) => (held.length < 50 ? held.push(m) : m.free());
  let n = 0;
  pair.tamper = (act) => {
    if (act.kind === "write" && act.type === RecordType.XEN_RX_RSP && ++n % 3 === 0) {
      new DataView(act.bytes.buffer, act.bytes.byteOffset).setInt16(6, n % 2 ? -1 : 5000, true);
    }
    return [act];
  };
  for (let i = 0; i < 300; i++) {
    pair.inject(frame(60 + i, i, MAC));
    pair.flushPort();
    await pair.settle();
    const posted = pair.rxq().mbufs.filter((m) => m !== undefined);
    expect(posted.filter((m) => m.freed || held.includes(m))).toEqual([]);
  }
  const copies = held.map((m) => pageOf(m).slice());
  for (const map of rxMaps(pair.rxq())) {
    pair.hostileWrite(getMapGref(map), 0, new Uint8Array(4096).fill(0xdd));
  }
  held.forEach((m, i) => {
    expect(Buffer.compare(pageOf(m), copies[i]!)).toBe(0);
  });
  for (const m of held) m.free();
  expect(violations(pair)).toEqual([]);
  expect(info.rxPool.inUse).toBe(256);
});

describe("XSA-465", () => {
  test("XSA-465 events at any moment of a suspend and resume are harmless", async () => {
    const pair = await XenPair.started({ queues: 2 });
    const storm = (): void => {
      for (let port = 0; port < 16; port++) pair.hypervisor.onEvent(port);
      pair.driver.batchApplied();
    };
    await pair.suspend();
    storm();
    pair.cut();
    storm();
    const back = pair.reconnect();
    storm();
    let over = false;
    void back.then(() => {
      over = true;
    });
    while (!over) {
      storm();
      pair.pump();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await pair.settle();
    expect(pair.info.carrier).toBe(true);
    expect(violations(pair)).toEqual([]);
    pair.clock.advance(5000);
    pair.driver.batchApplied();
    pair.send(frame(100));
    await pair.settle();
    expect(pair.outstanding).toBe(0);
  });

  test("XSA-465 an event of the old life finds the queues of the old life gone", async () => {
    const pair = await XenPair.started();
    const port = pair.txq().port;
    pair.cut();
    pair.hypervisor.onEvent(port);
    expect(pair.info.events.counters.stray).toBe(1);
  });
});

describe("a store and a hypervisor that lie while the NIC connects (fault-H7, fault-H8)", () => {
  const front = "/local/domain/1/device/vif/0";
  const back = "/local/domain/0/backend/vif/1/0";
  const keys: readonly [string, string, string][] = [
    [`${front}/backend-id`, "70000", "BACKEND_ID"],
    [`${front}/backend-id`, "-1", "BACKEND_ID"],
    [`${front}/backend`, "//", "BACKEND_PATH"],
    [`${front}/backend`, "/local/domain/0", "BACKEND"],
    [`${front}/mac`, "ff:ff:ff:ff:ff:ff", "MAC"],
    [`${front}/mac`, "", "MAC"],
    [`${front}/mtu`, "1", "MTU"],
    [`${back}/feature-rx-copy`, "0", "RX_COPY"],
    [`${back}/feature-rx-copy`, "2", "RX_COPY"],
  ];
  test.each(keys)("%s = %j is refused by name", async (path, value, code) => {
    const pair = new XenPair({ driver: { connectMs: 20 } });
    await pair.connect();
    pair.machine.store.write(path, value);
    await expect(pair.attach()).rejects.toMatchObject({ code });
    await pair.settle();
    expect(referencesInUse(pair)).toBe(0);
  });

  const harmless: readonly [string, string][] = [
    [`${front}/mtu`, "999999999999"],
    [`${back}/multi-queue-max-queues`, "0"],
    [`${back}/multi-queue-max-queues`, "1000000000000"],
    [`${back}/feature-gso-tcpv4`, "yes"],
    [`${back}/feature-sg`, "-1"],
  ];
  test.each(harmless)("%s = %j does not matter", async (path, value) => {
    const pair = new XenPair();
    await pair.connect();
    pair.machine.store.write(path, value);
    await pair.start();
    expect(pair.send(frame(100))).toBe(0);
    await pair.settle();
    expect(pair.segment).toHaveLength(1);
  });

  test("a port given twice ends the attempt, not the process", async () => {
    const pair = new XenPair({ queues: 2 });
    pair.tamper = (act) => {
      if (act.kind === "hypercall_reply" && act.bytes.length === 8)
        viewOf(act.bytes).setUint32(4, 9, true);
      return [act];
    };
    await expect(pair.attach()).rejects.toMatchObject({ code: "HYPERCALL" });
    await pair.settle();
    expect(referencesInUse(pair)).toBe(0);
  });

  test("a backend that closes, offers itself again and then does not connect is tried again", async () => {
    const pair = await XenPair.started({ driver: { connectMs: 20 } });
    const { machine } = pair;
    const say = async (key: string, value: string): Promise<void> => {
      machine.store.write(`${back}/${key}`, value);
      machine.settle();
      await pair.settle();
    };
    await say("state", "5");
    expect(pair.info.xenbus.state).toBe(6);
    await say("feature-rx-copy", "0");
    await say("state", "2");
    for (let i = 0; i < 5; i++) await pair.settle();
    expect(pair.info.carrier).toBe(false);
    expect(pair.counter("resume_failures")).toBe(1);
    expect(violations(pair)).toEqual([]);
    await say("feature-rx-copy", "1");
    for (let i = 0; i < 10 && !pair.info.carrier; i++) await pair.second();
    expect(pair.info.carrier).toBe(true);
    expect(pair.send(frame(100))).toBe(0);
    await pair.settle();
    expect(pair.outstanding).toBe(0);
  });
});

test("random words in ring pages, random events: named or harmless, and the next connection works", async () => {
  const word = fc.record({
    tx: fc.boolean(),
    offset: fc.oneof(
      fc.constantFrom(0, 4, 8, 12),
      fc.integer({ min: 0, max: 1023 }).map((n) => n * 4),
    ),
    value: fc.oneof(fc.integer({ min: 0, max: 600 }), fc.integer({ min: 0, max: 0xffffffff })),
  });
  const runs = process.env["RINGWIRE_SOAK"] === "1" ? 2000 : 60;
  await holds(
    fc.asyncProperty(fc.array(word, { minLength: 1, maxLength: 60 }), async (words) => {
      const pair = await XenPair.started();
      for (let i = 0; i < 10; i++) pair.send(frame(100, i));
      for (const { tx, offset, value } of words) {
        const ring = tx ? pair.txq().ring : pair.rxq().ring;
        if (ring === undefined) break;
        pair.hostileWrite(ring.reference, offset, u32(value));
        pair.hypervisor.onEvent(pair.txq().port);
        pair.driver.batchApplied();
        expect(violations(pair)).toEqual([]);
      }
      // The honest half of the device may react to its changed ring in any way.
      pair.toDevice = [];
      pair.toDriver = [];
      await recovers(pair);
      expect(pair.outstanding).toBe(0);
    }),
    { numRuns: runs },
  );
});
