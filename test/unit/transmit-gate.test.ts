/** The transmit gate without a driver: budget, link, and what makes a source go on. */
import { beforeEach, expect, test } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import { Iff, Ifnet } from "../../frontend/net/ifnet.ts";
import { Csum, HashType } from "../../frontend/net/mbuf.ts";
import { type GateQueue, TransmitGate } from "../../frontend/net/transmit-gate.ts";
import { silentLogger } from "../../shared/log.ts";
import { parseWelcome } from "../../shared/wire/hello.ts";
import { Limits, PROTOCOL_VERSION } from "../../shared/wire/transactions.ts";
import { FakeDeviceLink } from "../support/fake-device-link.ts";
import { mbufOf } from "../support/fake-netmap-adapter.ts";

class Queue implements GateQueue {
  readonly stats = { refused_ring: 0, refused_link: 0, refused_budget: 0, too_long: 0 };
  hasRoom = true;
  burstPackets = 0;
  burstBytes = 0;
}

let space: DmaSpace;
let link: FakeDeviceLink;
let ifnet: Ifnet;
let gate: TransmitGate<Queue>;
let queue: Queue;
let open: boolean;
let kicks: number;
let ready: number;

beforeEach(() => {
  space = new DmaSpace({ log: silentLogger });
  link = new FakeDeviceLink();
  space.attachLink(link);
  ifnet = new Ifnet("ena0", Uint8Array.of(2, 0, 0, 0, 0, 1), 1500);
  ifnet.flags = Iff.UP;
  open = true;
  kicks = 0;
  ready = 0;
  ifnet.onTransmitReady = () => ready++;
  gate = new TransmitGate<Queue>({ ifnet, space, isOpen: () => open, kick: () => kicks++ });
  queue = new Queue();
});

const frame = (bytes: number) => mbufOf(new Uint8Array(bytes));
const isBusy = (): boolean => (ifnet.flags & Iff.DRV_OACTIVE) !== 0;

test("the budget is the device's of today: another device may hold less", () => {
  expect(gate.pushBytes).toBe(Limits.PUSH_BYTES);
  space.pushBytes = Limits.PUSH_BYTES_MIN;
  expect(gate.pushBytes).toBe(Limits.PUSH_BYTES_MIN);
  gate.pushedBytes = Limits.PUSH_BYTES_MIN - 100;
  expect(gate.admit(queue, frame(100))).toBe(0);
  expect(gate.admit(queue, frame(101))).toBe(Errno.ENOBUFS);
  expect(queue.stats.refused_budget).toBe(1);
});

test("a frame longer than the whole budget is refused for good, whatever is pushed", () => {
  space.pushBytes = 1000;
  expect(gate.admit(queue, frame(1001))).toBe(Errno.EMSGSIZE);
  gate.pushedBytes = 500;
  expect(gate.admit(queue, frame(1001))).toBe(Errno.EMSGSIZE);
  expect(gate.admit(queue, frame(1000))).toBe(Errno.ENOBUFS);
  expect(queue.stats.too_long).toBe(2);
});

test("what the device cuts may be longer than what it sends as it is, each up to its limit", () => {
  gate.maxFrameBytes = 1514;
  ifnet.hwTsomax = 9000;
  const errnos = [1514, 1515, 9000, 9001].map((bytes) => {
    const m = frame(bytes);
    const plain = gate.admit(queue, m);
    m.csumFlags = Csum.IP6_TSO;
    return [plain, gate.admit(queue, m)];
  });
  expect(errnos).toEqual([
    [0, 0],
    [Errno.EMSGSIZE, 0],
    [Errno.EMSGSIZE, 0],
    [Errno.EMSGSIZE, Errno.EMSGSIZE],
  ]);
});

test("a packet goes to the queue of the flow that it came with, however large the number", () => {
  const m = frame(60);
  m.hashType = HashType.RSS_TCP_IPV4;
  m.flowId = 0xffff_ffff | 0;
  expect([1, 2, 4, 7].map((count) => gate.pick(m, count))).toEqual([0, 1, 3, 3]);
});

test("each reason for waiting ends by itself, and the source hears of it once", () => {
  const waits: [string, () => void, () => void][] = [
    ["device", () => (open = false), () => (open = true)],
    ["link", () => (link.writable = false), () => (link.writable = true)],
    ["budget", () => (gate.pushedBytes = gate.pushBytes), () => (gate.pushedBytes = 0)],
    ["queue", () => (queue.hasRoom = false), () => (queue.hasRoom = true)],
  ];
  const seen = waits.map(([, begin, end]) => {
    ready = 0;
    begin();
    const errno = gate.closed() || gate.admit(queue, frame(60));
    gate.ready();
    const early = [ready, isBusy()];
    end();
    gate.ready();
    gate.ready();
    return [errno, ...early, ready, isBusy()];
  });
  expect(seen).toEqual(waits.map(() => [Errno.ENOBUFS, 0, true, 1, false]));
});

test("a source that was refused by an interface that is down goes on when it is up", () => {
  ifnet.flags = 0;
  expect(gate.closed()).toBe(Errno.ENETDOWN);
  expect(ready).toBe(0);
  ifnet.flags = Iff.UP;
  gate.ready();
  gate.ready();
  expect(ready).toBe(1);
});

test("no more pushes than the device holds, however small they are", () => {
  gate.pushes = Limits.PUSHES - 19;
  expect(gate.admit(queue, frame(60))).toBe(0);
  gate.pushes++;
  expect(gate.admit(queue, frame(60))).toBe(Errno.ENOBUFS);
  gate.ready();
  expect(ready).toBe(0);
  gate.pushes--;
  gate.ready();
  expect(ready).toBe(1);
});

test("a full queue that is gone keeps nobody waiting", () => {
  queue.hasRoom = false;
  expect(gate.admit(queue, frame(60))).toBe(Errno.ENOBUFS);
  gate.ready();
  expect(ready).toBe(0);
  gate.forgetQueues();
  gate.ready();
  expect(ready).toBe(1);
});

test("a burst is due after 64 packets or 60 KiB, and is notified once when it ends", async () => {
  const due = Array.from({ length: 64 }, () => gate.burstDue(queue, 60));
  expect(due.indexOf(true)).toBe(63);
  queue.burstPackets = 0;
  queue.burstBytes = 0;
  expect(gate.burstDue(queue, 60 * 1024 - 1)).toBe(false);
  expect(gate.burstDue(queue, 1)).toBe(true);
  gate.armKick();
  gate.armKick();
  expect(kicks).toBe(0);
  await Promise.resolve();
  expect([kicks, gate.kickArmed]).toEqual([1, false]);
});

test("welcome: a push budget below one whole frame is refused, and the field is named", () => {
  const welcome = (pushBytes: number) => ({
    version: PROTOCOL_VERSION,
    name: "ena0",
    mac: "02:00:00:00:00:01",
    segment: "lan0",
    epoch: 1,
    queues: 1,
    maxMtu: 9216,
    pushBytes,
    revision: 0,
    deviceMemory: false,
  });
  expect(parseWelcome(welcome(65_557)).pushBytes).toBe(65_557);
  expect(() => parseWelcome(welcome(65_556))).toThrow("pushBytes");
});
