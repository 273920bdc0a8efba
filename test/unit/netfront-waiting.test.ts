/**
 * Posts of netfront that wait for a message that leaves anyway: receive requests, ends of grants,
 * requests for events. And when they do not wait.
 */
import { beforeEach, describe, expect, test } from "vitest";
import { RX_RING_SLOTS } from "../../shared/xen/netif.ts";
import { RingWord } from "../../shared/xen/ring.ts";
import { arriving, frame } from "../support/nic-frames.ts";
import { XenPair } from "../support/pair.ts";

const QUARTER = RX_RING_SLOTS / 4;

let pair: XenPair;
beforeEach(async () => {
  pair = await XenPair.started();
  pair.sent.length = 0;
});

/** `count` frames arrive, each in a batch of its own. */
function arriveNow(count = 1): void {
  for (let i = 0; i < count; i++) {
    pair.inject(arriving(60));
    pair.flushPort();
    pair.pumpUp();
  }
  pair.clock.turn();
}
/** The kinds of the driver's transactions, without a message for those that wait. */
const kinds = (): string[] => pair.sent.splice(0).map(({ kind }) => kind);

describe("after received frames", () => {
  test("nothing leaves by itself", () => {
    arriveNow(3);
    expect([pair.inputs.length, pair.toDevice.length]).toEqual([3, 0]);
    expect([pair.rxq().ring!.claimed, pair.rxq().ring!.inFlight]).toEqual([256, 253]);
  });

  test("the next message takes all of it along: one range of requests, one index, one question", () => {
    arriveNow(3);
    pair.send(frame(60));
    pair.clock.turn();
    expect(pair.toDevice.length).toBe(1);
    const { length } = kinds().filter((kind) => kind === "write");
    // Tx: request and index. Rx: request (twice at the end of the ring), index, event.
    expect(length).toBeLessThanOrEqual(2 + 4);
    expect(pair.rxq().ring!.inFlight).toBe(256);
    pair.pumpDown();
    expect(pair.grants.snapshot().granted).toBe(256 + 2 + 1);
  });

  test("a heartbeat takes it along", () => {
    arriveNow();
    pair.clock.tick();
    expect(pair.toDevice.length).toBe(1);
    expect(pair.rxq().ring!.inFlight).toBe(256);
  });

  test("a quarter of the ring is worth a message", () => {
    arriveNow(QUARTER - 1);
    expect([pair.toDevice.length, pair.rxq().ring!.inFlight]).toEqual([0, 256 - (QUARTER - 1)]);
    arriveNow();
    expect([pair.toDevice.length, pair.rxq().ring!.inFlight]).toEqual([1, 256]);
  });
});

describe("a backend that waits for receive requests", () => {
  /** It asks for an event with the request after those that it knows. */
  function ask(): void {
    const ring = pair.rxq().ring!;
    const event = Buffer.alloc(4);
    event.writeUInt32LE(ring.view.getUint32(RingWord.REQ_PROD, true) + 1);
    expect(pair.hostileWrite(ring.reference, RingWord.REQ_EVENT, event)).toBe(true);
  }
  function shown(): void {
    pair.clock.turn();
    expect(pair.toDevice.length).toBe(1);
    expect(pair.rxq().ring!.inFlight).toBe(256);
    expect(kinds()).toContain("event");
  }

  test("gets them with the batch in which it asks", () => {
    arriveNow(3);
    ask();
    pair.driver.batchApplied();
    shown();
  });

  test("gets them at once if it has asked before", () => {
    ask();
    pair.driver.batchApplied();
    pair.clock.turn();
    expect(pair.toDevice).toEqual([]);
    arriveNow();
    shown();
  });
});
