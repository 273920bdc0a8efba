/** Two exchanges on a wire in memory that can lose, duplicate, change and reorder frames. */
import { describe, expect, it } from "vitest";
import { Exchange } from "../../frontend/apps/exchange.ts";
import { Errno } from "../../frontend/bus/errno.ts";
import { Ifnet } from "../../frontend/net/ifnet.ts";
import { Mbuf, mCopyData } from "../../frontend/net/mbuf.ts";
import { transmitEach } from "../support/transmit.ts";

const DATA = 4;
const PINGS = 10;

interface Wire {
  readonly a: Exchange;
  readonly b: Exchange;
  /** Returns the frames that arrive in place of the n-th DATA frame from a to b. */
  spoil: (frame: Uint8Array, n: number) => Uint8Array[];
  /** Refuses every n-th frame of a with ENOBUFS; 0 refuses none. */
  refuseEvery: number;
  refused: number;
  /** Delay in each direction; 0 is the next turn. */
  delayMs: number;
}

function join(): Wire {
  const nics = [1, 2].map((n) => new Ifnet(`nic${n}`, Uint8Array.of(2, 0, 0, 0, 0, n), 1500));
  const [left, right] = nics as [Ifnet, Ifnet];
  let count = 0;
  let sent = 0;
  const wire: Wire = {
    a: new Exchange(left, PINGS),
    b: new Exchange(right, PINGS),
    spoil: (frame) => [frame],
    refuseEvery: 0,
    refused: 0,
    delayMs: 0,
  };
  const carry = (from: Ifnet, to: Ifnet) => {
    transmitEach(from, (m) => {
      if (from === left && wire.refuseEvery > 0 && ++sent % wire.refuseEvery === 0) {
        wire.refused++;
        setImmediate(() => from.onTransmitReady());
        return Errno.ENOBUFS;
      }
      const frame = new Uint8Array(m.pktLength);
      mCopyData(m, 0, m.pktLength, frame, 0);
      m.free();
      const frames = from === left && frame[14] === DATA ? wire.spoil(frame, count++) : [frame];
      const arrive = () => {
        for (const bytes of frames) {
          const arrived = new Mbuf();
          arrived.attach(bytes, 0, bytes.length, undefined);
          to.input(arrived);
        }
        to.inputDone();
      };
      if (wire.delayMs > 0) setTimeout(arrive, wire.delayMs);
      else setImmediate(arrive);
      return 0;
    });
  };
  carry(left, right);
  carry(right, left);
  return wire;
}

/** Lets both send at least `frames` frames, and waits until both have finished or nothing moves. */
async function runBoth({ a, b }: Wire, frames: number): Promise<void> {
  const ready = [a, b].map((side) => new Promise<void>((resolve) => (side.onReady = resolve)));
  a.start();
  b.start();
  await Promise.all(ready);
  a.startData();
  b.startData();
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const progress = () => a.report.sent + b.report.sent + a.report.received + b.report.received;
  for (let still = 0, last = -1; still < 50 && a.report.sent < frames; ) {
    await turn();
    still = progress() === last ? still + 1 : 0;
    last = progress();
  }
  a.stopData();
  b.stopData();
  for (let i = 0; i < 50; i++) await turn();
  a.close();
  b.close();
}

describe("Exchange", () => {
  it("verifies every frame of a good wire, both ways, and says when it is quiet", async () => {
    const wire = join();
    let quiet = 0;
    wire.a.onQuiet = () => quiet++;
    await runBoth(wire, 1000);
    for (const [from, to] of [
      [wire.a.report, wire.b.report],
      [wire.b.report, wire.a.report],
    ] as const) {
      expect(from.sent).toBeGreaterThanOrEqual(1000);
      expect(from.acknowledged).toBe(from.sent);
      expect(to).toMatchObject({ verified: from.sent, receivedBytes: from.sentBytes });
      expect(to).toMatchObject({ corrupt: 0, duplicate: 0, missing: 0, late: 0 });
      expect(from.roundTripUs).toHaveLength(PINGS);
    }
    expect(quiet).toBeGreaterThan(0);
  });

  it("sends what was refused for want of room again, once", async () => {
    const wire = join();
    wire.refuseEvery = 7;
    await runBoth(wire, 500);
    expect(wire.refused).toBeGreaterThan(10);
    expect(wire.b.report).toMatchObject({
      verified: wire.a.report.sent,
      duplicate: 0,
      missing: 0,
    });
  });

  it("has one round trip for each PING on a line that is slower than its calls", async () => {
    const wire = join();
    wire.delayMs = 40;
    const { a, b } = wire;
    const ready = [a, b].map((side) => new Promise<void>((resolve) => (side.onReady = resolve)));
    a.start();
    b.start();
    await Promise.all(ready);
    // Waits for the answers to repeated requests.
    await new Promise((resolve) => setTimeout(resolve, 4 * wire.delayMs));
    for (const { roundTripUs } of [a.report, b.report]) {
      expect(roundTripUs).toHaveLength(PINGS);
      expect(roundTripUs).toEqual(roundTripUs.toSorted((x, y) => x - y));
    }
    a.close();
    b.close();
  });

  it("notices a lost frame", async () => {
    const wire = join();
    wire.spoil = (frame, n) => (n === 20 ? [] : [frame]);
    await runBoth(wire, 200);
    expect(wire.b.report).toMatchObject({ missing: 1, late: 0, verified: wire.a.report.sent - 1 });
  });

  it("notices a doubled frame", async () => {
    const wire = join();
    wire.spoil = (frame, n) => (n === 20 ? [frame, frame.slice()] : [frame]);
    await runBoth(wire, 200);
    expect(wire.b.report).toMatchObject({ duplicate: 1, verified: wire.a.report.sent });
  });

  it("notices frames out of order, and that none is missing in the end", async () => {
    const wire = join();
    let kept: Uint8Array | undefined;
    wire.spoil = (frame, n) => {
      if (n === 20) kept = frame;
      return n === 20 ? [] : n === 21 && kept !== undefined ? [frame, kept] : [frame];
    };
    await runBoth(wire, 200);
    expect(wire.b.report).toMatchObject({ missing: 1, late: 1, verified: wire.a.report.sent });
  });

  // Bytes after the addresses: a wrong type means another protocol, the checksum covers the rest.
  it.each([15, 19, 23, 27, 31, 32, 59])("notices that byte %i is wrong", async (at) => {
    const wire = join();
    wire.spoil = (frame, n) => {
      if (n !== 20) return [frame];
      const bent = frame.slice();
      bent[at] = bent[at]! ^ 0x10;
      return [bent];
    };
    await runBoth(wire, 200);
    expect(wire.b.report.corrupt).toBe(1);
    expect(wire.b.report.verified).toBe(wire.a.report.sent - 1);
  });

  it("leaves frames of others alone", async () => {
    const wire = join();
    wire.spoil = (frame, n) => {
      if (n !== 20) return [frame];
      const other = new Uint8Array(60);
      other.set([8, 0], 12);
      return [other, new Uint8Array(14), frame];
    };
    await runBoth(wire, 200);
    expect(wire.b.report).toMatchObject({ verified: wire.a.report.sent, corrupt: 0 });
  });
});
