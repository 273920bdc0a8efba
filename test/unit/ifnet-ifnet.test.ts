/** The interface without handlers, and its link state. */
import { expect, it } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { Ifnet } from "../../frontend/net/ifnet.ts";
import { MbufPool } from "../../frontend/net/mbuf.ts";

const mac = Uint8Array.from([2, 0, 0, 0, 0, 1]);

it("without a driver refuses to send, and the sender keeps its packet", async () => {
  const ifnet = new Ifnet("ena0", mac, 1500);
  const pool = new MbufPool(64, 1);
  const m = pool.get()!;
  expect(ifnet.send(m)).toBe(Errno.ENETDOWN);
  expect(pool.inUse).toBe(1);
  expect(await ifnet.setMtu(9000)).toBe(Errno.ENXIO);
  expect(ifnet.mtu).toBe(1500);
});

it("without anything on top frees what comes in, and counts it", () => {
  const ifnet = new Ifnet("ena0", mac, 1500);
  const pool = new MbufPool(64, 1);
  ifnet.input(pool.get()!);
  ifnet.inputDone();
  expect(pool.inUse).toBe(0);
  expect(ifnet.counters.iqdrops).toBe(1);
});

it("tells a change of link state once", () => {
  const ifnet = new Ifnet("ena0", mac, 1500);
  const seen: boolean[] = [];
  ifnet.onLinkState = (up) => seen.push(up);
  for (const up of [false, false, true, true, false]) ifnet.setLinkState(up);
  expect(seen).toEqual([false, true, false]);
  expect(ifnet.linkState).toBe("down");
});

it("refuses a MAC that is none", () => {
  expect(() => new Ifnet("ena0", new Uint8Array(5), 1500)).toThrow("5 bytes");
});
