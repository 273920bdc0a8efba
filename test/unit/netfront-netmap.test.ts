/** netfront below netmap: readers of a ring get finished frames. */
import { expect, test, vi } from "vitest";
import { Ifcap } from "../../frontend/net/ifnet.ts";
import { Csum } from "../../frontend/net/mbuf.ts";
import { adapterOf, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import { putFrame } from "../support/netmap-frames.ts";
import { buildPacket } from "../support/packets.ts";
import { XenPair } from "../support/pair.ts";

const MAC = [2, 0, 0, 0, 0, 1];

test("netmap has no place for a blank checksum or a super-frame: the backend is told so", async () => {
  const pair = new XenPair({ driver: { netmap: new Netmap() } });
  await pair.start();
  expect(pair.end.port?.offloads).toMatchObject({ csum: false, tso4: false, tso6: false });
  expect(pair.driver.ifnet.capEnable & (Ifcap.RXCSUM | Ifcap.RXCSUM_IPV6 | Ifcap.LRO)).toBe(0);
  const { bytes, l4 } = buildPacket({ checksum: "partial", destination: MAC });
  const facts = { needsCsum: true, csumStart: l4, csumOffset: 16, csumValid: true };
  expect(pair.inject(bytes, facts)).toBeUndefined();
  pair.flushPort();
  await pair.settle();
  expect(pair.inputs[0]?.csumFlags).toBe(Csum.L4_CALC | Csum.L4_VALID);
});

test("without netmap, and with netmap when it is asked for, the backend may leave them", async () => {
  for (const driver of [{}, { netmap: new Netmap(), rxcsum: true }]) {
    const pair = new XenPair({ driver });
    await pair.start();
    expect(pair.end.port?.offloads).toMatchObject({ csum: true, tso4: true, tso6: true });
  }
});

test("frames that an application sends while the interface is down leave when it is up again", async () => {
  const netmap = new Netmap();
  const pair = new XenPair({ driver: { netmap } });
  await pair.start();
  netmap.addInterface(pair.driver.ifnet);
  const port = await nmOpen("netmap:xn0", { netmap });
  const kring = adapterOf(port).txRings[0]!;
  await pair.driver.down();
  expect(putFrame(port, port.txRing(0), new Uint8Array(60).fill(1))).toBe(true);
  port.txsync();
  await pair.settle();
  expect(pair.segment).toEqual([]);
  const woken = vi.spyOn(kring, "notify");
  await pair.driver.up();
  expect(woken).toHaveBeenCalled();
  port.txsync();
  await pair.settle();
  expect(pair.segment).toHaveLength(1);
  await port.close();
});
