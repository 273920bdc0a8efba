/** Packets and expectations for tests of netback with a frontend that breaks the rules. */
import { expect } from "vitest";
import { EvtchnStatus } from "../../shared/xen/event-channel.ts";
import { NetifStatus } from "../../shared/xen/netif.ts";
import { type FakeGuest, GUEST, type Piece } from "./fake-guest.ts";
import { settle } from "./fake-host.ts";

export const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

/** A page-aligned piece of `length` bytes. */
export const piece = (length: number, seed = 1): Piece => ({ bytes: pattern(length, seed) });

export const pieces = (count: number, length = 60): Piece[] =>
  Array.from({ length: count }, (_, i) => piece(length, i));

export const statuses = (guest: FakeGuest): number[] => guest.sent().map((done) => done.status);

export async function turn(): Promise<void> {
  await settle();
  await settle();
}

/** Expects that the interface was disabled for this one reason, and holds nothing any more. */
export function expectDisabled(guest: FakeGuest, code: string): void {
  expect(guest.fatals.splice(0)).toEqual([code]);
  expect(guest.netback.connected).toBe(false);
  expect(guest.inUse).toEqual([]);
  expect(guest.memory.pushes.live).toBe(0);
  expect(guest.memory.reads).toEqual([]);
  for (const port of guest.queues.flatMap(({ txPort, rxPort }) => [txPort, rxPort])) {
    const unbound = { status: EvtchnStatus.UNBOUND };
    expect(guest.events.status(GUEST, GUEST, port)).toMatchObject(unbound);
  }
}

/** Expects that the interface still works normally. */
export function expectAlive(guest: FakeGuest): void {
  expect(guest.fatals).toEqual([]);
  const { frames } = guest.host.switchPort;
  const before = frames.length;
  guest.sent();
  guest.send([piece(77)]);
  expect(statuses(guest)).toEqual([NetifStatus.OKAY]);
  expect(frames.slice(before).map((f) => f.bytes)).toEqual([pattern(77)]);
}
