import { describe, expect, test } from "vitest";
import type { NetbackConfig, QueueConfig } from "../../device/xen/netback/config.ts";
import { index32 } from "../../shared/ring/index32.ts";
import { StateKind, XenRingKind } from "../../shared/wire/link-state.ts";
import { EvtchnStatus } from "../../shared/xen/event-channel.ts";
import type { FrontRing } from "../support/fake-front-ring.ts";
import { FakeGuest, GUEST } from "../support/fake-guest.ts";
import { PAGE } from "../support/fake-guest-memory.ts";
import { stateParts, stateRecords } from "../support/link-state.ts";

/** A guest with rings for two queues and a control ring, not connected. */
function prepared(): FakeGuest {
  const guest = new FakeGuest({ queues: 2, control: true });
  guest.connect();
  guest.netback.disconnect();
  return guest;
}

function withQueue(guest: FakeGuest, change: Partial<QueueConfig>): NetbackConfig {
  const config = guest.config();
  const [first, second] = config.queues;
  return { ...config, queues: [first!, { ...second!, ...change }] };
}

function ports(guest: FakeGuest): number[] {
  return [...guest.queues.flatMap((q) => [q.txPort, q.rxPort]), guest.control!.port];
}

describe("a key that does not do is named, and everything is undone", () => {
  const wrong: [string, (guest: FakeGuest) => NetbackConfig][] = [
    ["queue-1/tx-ring-ref", (g) => withQueue(g, { txRingRef: 9999 })],
    ["queue-1/rx-ring-ref", (g) => withQueue(g, { rxRingRef: 0xffff_ffff })],
    // A granted page that is not coherent memory.
    ["queue-1/rx-ring-ref", (g) => withQueue(g, { rxRingRef: g.grant(g.newFrame()) })],
    [
      "queue-1/tx-ring-ref",
      (g) => withQueue(g, { txRingRef: g.grant(g.queue(1).tx.frame, { readonly: true }) }),
    ],
    [
      "queue-1/tx-ring-ref",
      (g) => withQueue(g, { txRingRef: g.grant(g.queue(1).tx.frame, { domid: 5 }) }),
    ],
    ["queue-1/event-channel-tx", (g) => withQueue(g, { txPort: 4000 })],
    ["queue-1/event-channel-rx", (g) => withQueue(g, { rxPort: g.queue(0).txPort })],
    ["queue-1/event-channel", (g) => withQueue(g, { txPort: 77, rxPort: 77 })],
    [
      "ctrl-ring-ref",
      (g) => ({ ...g.config(), control: { ringRef: 9999, port: g.control!.port } }),
    ],
    [
      "event-channel-ctrl",
      (g) => ({ ...g.config(), control: { ringRef: g.control!.ring.reference, port: 9 } }),
    ],
    [
      "queue-1/rx-ring-ref",
      (g) => {
        g.queue(1).rx.publish(index32(257));
        return g.config();
      },
    ],
  ];
  test.each(wrong)("%s", (key, configOf) => {
    const guest = prepared();
    const sentence = guest.netback.connect(configOf(guest));
    expect(sentence).toMatch(new RegExp(`^${key}: `));
    expect(guest.netback.connected).toBe(false);
    expect(guest.inUse).toEqual([]);
    for (const port of ports(guest)) {
      expect(guest.events.status(GUEST, GUEST, port)).toMatchObject({
        status: EvtchnStatus.UNBOUND,
      });
    }
    expect(guest.connect()).toBeUndefined();
  });

  test("one queue has its keys at the top", () => {
    const guest = new FakeGuest();
    guest.connect();
    guest.netback.disconnect();
    const [queue] = guest.config().queues;
    const config = { ...guest.config(), queues: [{ ...queue!, txRingRef: 9999 }] };
    expect(guest.netback.connect(config)).toMatch(/^tx-ring-ref: /);
  });
});

test("rings are in use while connected, and the guest can't take them back", () => {
  const guest = FakeGuest.connected({ control: true });
  const rings = [guest.queue().tx, guest.queue().rx, guest.control!.ring];
  expect(guest.inUse.sort()).toEqual(rings.map((ring) => ring.reference).sort());
  for (const ring of rings) expect(guest.end(ring.reference)).toBe(false);
  guest.netback.disconnect();
  for (const ring of rings) expect(guest.end(ring.reference)).toBe(true);
});

test("a capture is told every ring: its queue, port, reference, address and page", () => {
  const guest = FakeGuest.connected({ queues: 2, control: true });
  const record = (ring: XenRingKind, queue: number, front: FrontRing, port: number) => {
    const { reference, frame, page } = front;
    return { values: { ring, queue, port, reference, address: frame * PAGE }, tail: page };
  };
  const { TX, RX, CTRL } = XenRingKind;
  const told = stateRecords(
    stateParts((state) => guest.netback.tellState(state)),
    StateKind.XEN_RING,
  );
  expect(told).toEqual([
    ...guest.queues.flatMap(({ tx, rx, txPort, rxPort }, i) => [
      record(TX, i, tx, txPort),
      record(RX, i, rx, rxPort),
    ]),
    record(CTRL, 0, guest.control!.ring, guest.control!.port),
  ]);
});

test("one channel for both rings of a queue", () => {
  const guest = FakeGuest.connected({ split: false });
  guest.postRx(4);
  guest.send([{ bytes: new Uint8Array(60).fill(2) }]);
  const [{ txPort, rxPort }] = guest.queues as [FakeGuest["queues"][0]];
  expect(txPort).toBe(rxPort);
  expect(guest.takePosted().at(-1)).toEqual({ kind: "event", port: txPort });
  expect(guest.sent().length).toBe(1);
});

test.each([
  ["of both channels are counted together", true, 2],
  ["of a shared channel are counted once", false, 1],
])("events without work %s", (_, split, wanted) => {
  const guest = FakeGuest.connected({ split, control: true });
  const { txPort, rxPort } = guest.queue();
  // The event of the binding finds the rings unseen, so it is not spurious.
  guest.netback.batchEnd();
  for (const port of new Set([txPort, rxPort])) {
    guest.notify(port);
    guest.netback.batchEnd();
  }
  const { queues, control } = guest.netback.snapshot();
  expect(queues![0]).toMatchObject({ txPort, rxPort, spuriousEvents: wanted });
  expect(control).toMatchObject({ port: guest.control!.port, spuriousEvents: 0 });
});

test("requests posted before the backend looked are found", async () => {
  const guest = prepared();
  guest.post([{ bytes: new Uint8Array(60).fill(2) }]);
  guest.queue(0).tx.publish();
  guest.netback.connect(guest.config());
  guest.netback.batchEnd();
  expect(guest.sent().length).toBe(1);
});

test("a thousand connections leave nothing behind", () => {
  const guest = new FakeGuest({ queues: 2, control: true });
  guest.connect();
  for (let i = 0; i < 1000; i++) {
    guest.netback.disconnect();
    expect(guest.netback.connect(guest.config())).toBeUndefined();
  }
  guest.netback.destroy();
  guest.netback.destroy();
  expect(guest.inUse).toEqual([]);
  expect(guest.host.switchPort.detached).toBe(true);
  expect(guest.events.use(0).ports).toBe(0);
});
