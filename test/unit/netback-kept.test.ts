/** Transmit responses that wait for the next message to the guest, and those that never do. */
import { describe, expect, test } from "vitest";
import { Verdict } from "../../device/switch/port.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import { FakeGuest, type GuestOptions } from "../support/fake-guest.ts";
import { settle } from "../support/fake-host.ts";
import { frameOf } from "../support/packets.ts";

const bytes = new Uint8Array(60).fill(0x5a);
/** Most packets whose responses wait. */
const MOST_PACKETS = 64;

/** A guest on whose link no deadline passes by itself. */
function patient(options: GuestOptions = {}): FakeGuest {
  const guest = FakeGuest.connected(options);
  guest.host.onLazy = undefined;
  return guest;
}

const send = (guest: FakeGuest, count = 1, pieces = [{ bytes }], options = {}): void => {
  for (let i = 0; i < count; i++) guest.post(pieces, options);
  guest.kick();
};
const answers = (guest: FakeGuest): number => guest.sent().length;

describe("responses wait", () => {
  test("for the next batch, which takes them in one write with their event", () => {
    const guest = patient();
    const { flushes } = guest.host;
    guest.takePosted();
    send(guest);
    send(guest, 2);
    expect([guest.takePosted(), answers(guest)]).toEqual([[], 0]);
    expect([guest.host.deadlines, guest.host.flushes]).toEqual([[30, 30], flushes]);
    const [queue] = guest.netback.snapshot().queues!;
    expect(queue!.tx.ring).toMatchObject({ rspProd: 0, rspProdPvt: 3 });
    guest.netback.beforeFlush();
    expect(guest.takePosted().map(({ kind }) => kind)).toEqual([
      "write",
      "write",
      "write",
      "event",
    ]);
    expect(answers(guest)).toBe(3);
    guest.netback.beforeFlush();
    expect(guest.takePosted()).toEqual([]);
  });

  test("and so does the request for an event, which the guest's next batch does not need", () => {
    const guest = patient();
    const { tx } = guest.queue();
    send(guest);
    expect(tx.reqEvent).toBe(1);
    send(guest);
    guest.netback.beforeFlush();
    expect([tx.reqEvent, answers(guest)]).toEqual([3, 2]);
  });

  test("a received frame takes them along, and is not delayed", () => {
    const guest = patient();
    guest.postRx(8);
    send(guest, 3);
    const { flushes } = guest.host;
    expect(guest.netback.deliver(frameOf(bytes))).toBe(undefined);
    guest.netback.flush();
    expect([answers(guest), guest.received().length]).toEqual([3, 1]);
    expect(guest.host.flushes).toBe(flushes + 1);
  });

  test("those of a ring that is given back come before its end", () => {
    const guest = patient();
    send(guest, 3);
    guest.netback.disconnect();
    expect(answers(guest)).toBe(3);
  });

  test("those of a ring that is broken do not come", () => {
    const guest = patient();
    send(guest, 3);
    guest.queue().tx.publish(1000);
    guest.netback.batchEnd();
    expect([guest.fatals, answers(guest)]).toEqual([["TX_REQ_PROD"], 0]);
  });
});

describe("a guest that may wait for them gets responses at once", () => {
  test(`beyond ${MOST_PACKETS} packets, over all queues`, () => {
    const guest = patient({ queues: 2 });
    const total = (): number => guest.sent(0).length + guest.sent(1).length;
    for (let i = 1; i < MOST_PACKETS; i++) guest.send([{ bytes }], { queue: i & 1 });
    expect(total()).toBe(0);
    guest.send([{ bytes }], { queue: 0 });
    expect(total()).toBe(MOST_PACKETS);
    for (let i = 1; i < MOST_PACKETS; i++) guest.send([{ bytes }], { queue: i & 1 });
    expect(total()).toBe(0);
  });

  test("beyond a quarter of the ring", () => {
    const guest = patient();
    const pieces = Array.from({ length: 16 }, () => ({ bytes }));
    for (let i = 0; i < 4; i++) send(guest, 1, pieces);
    expect(answers(guest)).toBe(0);
    send(guest);
    expect(answers(guest)).toBe(65);
  });

  test("beyond a quarter of its budget of pushes, and with a small budget always", () => {
    for (const [pushBytes, kept] of [
      [Limits.PUSH_BYTES_MIN, 0],
      [Limits.PUSH_BYTES_MIN + 600, 10],
      [1 << 20, MOST_PACKETS - 1],
    ] as const) {
      const guest = patient();
      guest.host.pushBytes = pushBytes;
      let sent = 0;
      for (let told = 0; told === 0; told = answers(guest)) {
        send(guest);
        sent++;
      }
      expect(sent).toBe(kept + 1);
    }
  });

  test("a packet was held: those before it, and its own when it goes", async () => {
    const guest = patient();
    const port = guest.host.switchPort;
    send(guest, 2);
    port.verdict = Verdict.HELD;
    send(guest);
    expect(answers(guest)).toBe(2);
    port.verdict = Verdict.DONE;
    port.onReady?.();
    await settle();
    expect(answers(guest)).toBe(1);
    send(guest);
    expect(answers(guest)).toBe(0);
  });

  test("a packet had to be read: likewise", async () => {
    const guest = patient();
    send(guest, 2);
    send(guest, 1, [{ bytes }], { push: false });
    expect(answers(guest)).toBe(2);
    guest.memory.answerNow();
    await settle();
    await settle();
    expect(answers(guest)).toBe(1);
  });

  test("a packet had to wait for credit: likewise", () => {
    const guest = patient();
    guest.netback.setRate({ bytes: 120, usec: 50_000 });
    send(guest, 2);
    expect(answers(guest)).toBe(0);
    send(guest);
    expect(answers(guest)).toBe(2);
    guest.host.clock.advance(50);
    expect(answers(guest)).toBe(1);
  });

  test("the answers of the control ring, and a request for receive slots, do not wait either", () => {
    const guest = patient({ control: true });
    guest.ask({ id: 7, type: 0 });
    expect(guest.answers().map(({ id }) => id)).toEqual([7]);
    const { flushes } = guest.host;
    expect(guest.netback.ready(60)).toBe(false);
    expect([guest.queue().rx.reqEvent, guest.host.flushes]).toEqual([1, flushes + 1]);
  });
});
