/** The transmit gate without a driver: budget, link, and the events that let a source continue. */
import { beforeEach, expect, test } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import { Iff, Ifnet } from "../../frontend/net/ifnet.ts";
import { Csum, HashType, type Mbuf } from "../../frontend/net/mbuf.ts";
import { type GateQueue, TransmitGate } from "../../frontend/net/transmit-gate.ts";
import { silentLogger } from "../../shared/log.ts";
import { parseWelcome } from "../../shared/wire/hello.ts";
import { Limits, PROTOCOL_VERSION } from "../../shared/wire/protocol.ts";
import { FakeDeviceLink } from "../support/fake-device-link.ts";
import { mbufOf } from "../support/fake-netmap-adapter.ts";

class Queue implements GateQueue {
  readonly stats = {
    count: 0,
    bytes: 0,
    refused_ring: 0,
    refused_link: 0,
    refused_budget: 0,
    too_long: 0,
  };
  hasRoom = true;
}

let space: DmaSpace;
let link: FakeDeviceLink;
let ifnet: Ifnet;
let gate: TransmitGate<Queue>;
let queue: Queue;
let open: boolean;
/** Packets staged before each notification of the device. */
let kicks: number[];
let staged: number;
let ready: number;
/** The result of `stage`. */
let stage: (m: Mbuf) => number;

beforeEach(() => {
  space = new DmaSpace({ log: silentLogger });
  link = new FakeDeviceLink();
  space.attachLink(link);
  ifnet = new Ifnet("ena0", Uint8Array.of(2, 0, 0, 0, 0, 1), 1500);
  ifnet.flags = Iff.UP;
  open = true;
  kicks = [];
  staged = 0;
  ready = 0;
  stage = () => 0;
  ifnet.onTransmitReady = () => ready++;
  queue = new Queue();
  gate = new TransmitGate<Queue>({
    ifnet,
    space,
    isOpen: () => open,
    queueOf: () => queue,
    stage: (_, m) => {
      const errno = stage(m);
      if (errno === 0) staged++;
      return errno;
    },
    kick: () => {
      kicks.push(staged);
    },
  });
  ifnet.transmit = (mbufs, n) => gate.transmit(mbufs, n);
});

const frame = (bytes: number) => mbufOf(new Uint8Array(bytes));
const isBusy = (): boolean => (ifnet.flags & Iff.DRV_OACTIVE) !== 0;

test("the budget is the device's of today: another device may hold less", () => {
  expect(ifnet.send(frame(100))).toBe(0);
  space.pushBytes = Limits.PUSH_BYTES_MIN;
  gate.pushedBytes = Limits.PUSH_BYTES_MIN - 100;
  expect(ifnet.send(frame(100))).toBe(0);
  expect(ifnet.send(frame(101))).toBe(Errno.ENOBUFS);
  expect(queue.stats.refused_budget).toBe(1);
});

test("a frame longer than the whole budget is refused for good, whatever is pushed", () => {
  space.pushBytes = 1000;
  expect(ifnet.send(frame(1001))).toBe(Errno.EMSGSIZE);
  gate.pushedBytes = 500;
  expect(ifnet.send(frame(1001))).toBe(Errno.EMSGSIZE);
  expect(ifnet.send(frame(1000))).toBe(Errno.ENOBUFS);
  expect(queue.stats.too_long).toBe(2);
});

test("what the device cuts may be longer than what it sends as it is, each up to its limit", () => {
  gate.maxFrameBytes = 1514;
  ifnet.hwTsomax = 9000;
  const errnos = [1514, 1515, 9000, 9001].map((bytes) => {
    const m = frame(bytes);
    const plain = ifnet.send(m);
    m.csumFlags = Csum.IP6_TSO;
    return [plain, ifnet.send(m)];
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
    ["budget", () => (gate.pushedBytes = space.pushBytes), () => (gate.pushedBytes = 0)],
    ["queue", () => (queue.hasRoom = false), () => (queue.hasRoom = true)],
  ];
  const seen = waits.map(([, begin, end]) => {
    ready = 0;
    begin();
    const errno = ifnet.send(frame(60));
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
  expect(ifnet.send(frame(60))).toBe(Errno.ENETDOWN);
  expect(ready).toBe(0);
  ifnet.flags = Iff.UP;
  gate.ready();
  gate.ready();
  expect(ready).toBe(1);
});

test("no more pushes than the device holds, however small they are", () => {
  gate.pushes = Limits.PUSHES - 19;
  expect(ifnet.send(frame(60))).toBe(0);
  gate.pushes++;
  expect(ifnet.send(frame(60))).toBe(Errno.ENOBUFS);
  gate.ready();
  expect(ready).toBe(0);
  gate.pushes--;
  gate.ready();
  expect(ready).toBe(1);
});

test("a full queue that is gone keeps nobody waiting", () => {
  queue.hasRoom = false;
  expect(ifnet.send(frame(60))).toBe(Errno.ENOBUFS);
  gate.ready();
  expect(ready).toBe(0);
  gate.forgetQueues();
  gate.ready();
  expect(ready).toBe(1);
});

const batch = (n: number, bytes = 60) => Array.from({ length: n }, () => frame(bytes));

test("a batch is announced once behind it, and on the way after 64 packets or 60 KiB", () => {
  expect(ifnet.transmit(batch(63), 63)).toBe(63);
  expect(kicks).toEqual([63]);
  kicks = [];
  staged = 0;
  expect(ifnet.transmit(batch(65), 65)).toBe(65);
  expect(kicks).toEqual([64, 65]);
  kicks = [];
  staged = 0;
  expect(ifnet.transmit(batch(7, 30 * 1024), 7)).toBe(7);
  expect(kicks).toEqual([2, 4, 6, 7]);
});

test("the packets before a refused one are sent and announced, those behind it stay", () => {
  const mbufs = batch(5);
  stage = (m) => (m === mbufs[3] ? Errno.EMSGSIZE : 0);
  expect([ifnet.transmit(mbufs, 5), ifnet.transmitErrno]).toEqual([3, Errno.EMSGSIZE]);
  expect(kicks).toEqual([3]);
  stage = () => 0;
  expect([ifnet.transmit(mbufs, 4), ifnet.transmitErrno]).toEqual([4, 0]);
  queue.hasRoom = false;
  expect([ifnet.transmit(mbufs, 2), ifnet.transmitErrno]).toEqual([0, Errno.ENOBUFS]);
  expect(kicks).toEqual([3, 7]);
});

test("the link is asked once a batch, and again after each notification", () => {
  let asked = 0;
  Object.defineProperty(link, "writable", { get: () => ++asked <= 2 });
  expect(ifnet.transmit(batch(10), 10)).toBe(10);
  expect(asked).toBe(1);
  expect([ifnet.transmit(batch(200), 200), ifnet.transmitErrno]).toEqual([64, Errno.ENOBUFS]);
  expect(asked).toBe(3);
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
