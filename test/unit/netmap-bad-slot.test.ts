/**
 * An application whose slots have invalid buffer indexes: no frame passes, and the log says why.
 */
import { afterEach, expect, test, vi } from "vitest";
import { Ifnet } from "../../frontend/net/ifnet.ts";
import { adapterOf, type NmPort, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import { FakeNic, mbufOf } from "../support/fake-netmap-adapter.ts";
import { ethernet, putFrame, takeAll } from "../support/netmap-frames.ts";
import { MAC, NetmapPair, numbered, SLOTS } from "../support/netmap-pair.ts";
import { RecordingLog } from "../support/recording-log.ts";

const BAD = 4_000_000_000;

afterEach(() => {
  vi.restoreAllMocks();
});

/** A switch, a plain interface and a native one, and how a frame passes through each. */
interface Stage {
  readonly port: NmPort;
  readonly ring: string;
  /** Sends or receives `n` frames through slots of `bad`. */
  go(n: number): Promise<void> | void;
}

const STAGES: Readonly<Record<string, (netmap: Netmap) => Promise<Stage>>> = {
  "emulated receive": async (netmap) => {
    const ifnet = new Ifnet("plain0", Uint8Array.of(2, 0, 0, 0, 0, 9), 1500);
    netmap.addInterface(ifnet);
    const port = await nmOpen("netmap:plain0", { netmap });
    const go = (n: number): void => {
      for (let i = 0; i < n; i++) {
        spoil(port.rxRing(0));
        ifnet.input(mbufOf(ethernet(1, 2)));
        port.rxsync();
      }
    };
    return { port, ring: "plain0 rx0", go };
  },
  "emulated transmit": async (netmap) => {
    const ifnet = new Ifnet("plain0", Uint8Array.of(2, 0, 0, 0, 0, 9), 1500);
    netmap.addInterface(ifnet);
    const port = await nmOpen("netmap:plain0", { netmap });
    return { port, ring: "plain0 tx0", go: (n) => send(port, 0, n) };
  },
  "host receive": async (netmap) => {
    const nic = new FakeNic(netmap);
    const port = await nmOpen("netmap:fake0*", { netmap });
    const go = (n: number): void => {
      for (let i = 0; i < n; i++) {
        spoil(port.rxRing(1));
        nic.ifnet.send(mbufOf(ethernet(1, 2)));
        port.rxsync();
        takeAllBad(port.rxRing(1));
      }
    };
    return { port, ring: "fake0 rx1", go };
  },
  "host transmit": async (netmap) => {
    new FakeNic(netmap);
    const port = await nmOpen("netmap:fake0*", { netmap });
    return { port, ring: "fake0 tx1", go: (n) => send(port, 1, n) };
  },
  "VALE receive": async (netmap) => {
    const port = await nmOpen("vale0:a", { netmap });
    const other = await nmOpen("vale0:b", { netmap });
    const go = (n: number): void => {
      for (let i = 0; i < n; i++) {
        spoil(port.rxRing(0));
        putFrame(other, other.txRing(0), ethernet(0xff, 2));
        other.txsync();
        port.rxsync();
        takeAllBad(port.rxRing(0));
      }
    };
    return { port, ring: "vale0:a rx0", go };
  },
  "VALE transmit": async (netmap) => {
    const port = await nmOpen("vale0:a", { netmap });
    return { port, ring: "vale0:a tx0", go: (n) => send(port, 0, n) };
  },
};

/** Gives every slot an invalid buffer index. */
function spoil(ring: { numSlots: number; setBufIdx(slot: number, index: number): void }): void {
  for (let i = 0; i < ring.numSlots; i++) ring.setBufIdx(i, BAD);
}

function takeAllBad(ring: { readonly tail: number; advance(slot: number): void }): void {
  ring.advance(ring.tail);
}

function send(port: NmPort, ringId: number, n: number): void {
  const ring = port.txRing(ringId);
  for (let i = 0; i < n; i++) {
    ring.setBufIdx(ring.head, BAD);
    ring.setLen(ring.head, 60);
    ring.setSlotFlags(ring.head, 0);
    ring.advance(ring.next(ring.head));
    port.txsync();
  }
}

test.each(Object.keys(STAGES))(
  "case-X1 %s: one line names port, slot and buffer, and another a minute later",
  async (name) => {
    const log = new RecordingLog();
    const netmap = new Netmap({ log });
    const { port, ring, go } = await STAGES[name]!(netmap);
    const now = vi.spyOn(performance, "now");
    now.mockReturnValue(1_000_000);
    await go(5);
    expect(log.warnings).toEqual([
      expect.stringMatching(
        new RegExp(
          `^${ring}: the application released slot \\d+ with buffer ${BAD}, and there are`,
        ),
      ),
    ]);
    expect(adapterOf(port).counters.badSlots).toBe(5);
    now.mockReturnValue(1_059_999);
    await go(1);
    expect(log.warnings.length).toBe(1);
    now.mockReturnValue(1_060_000);
    await go(3);
    expect(log.warnings.length).toBe(2);
  },
);

test("case-X1 ENA, both ways: a line for each port, and none for the driver's empty slots", async () => {
  const log = new RecordingLog();
  const pair = new NetmapPair();
  pair.netmap.log = log;
  const port = await pair.startOpen();
  const rx = port.rxRing(0);
  await pair.arrive(...Array.from({ length: 40 }, (_, n) => numbered(n, 100, MAC)));
  port.rxsync();
  expect(takeAll(port, rx).length).toBe(40);
  expect(log.warnings).toEqual([]);
  rx.setBufIdx(0, BAD);
  for (let i = 0; i < 5; i++) port.rxsync();
  expect(log.warnings).toEqual([
    expect.stringMatching(/^ena0 rx0: .* slot 0 with buffer 4000000000/),
  ]);

  const other = new NetmapPair();
  other.netmap.log = log;
  const sender = await other.startOpen();
  send(sender, 0, 5);
  expect(log.warnings.length).toBe(2);
  expect(log.warnings[1]).toMatch(/^ena0 tx0: .* is lost$/);
  expect(sender.txRing(0).numSlots).toBe(SLOTS);
});
