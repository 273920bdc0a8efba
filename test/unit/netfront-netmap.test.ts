/** netfront below netmap: whoever looks into a ring gets frames that are finished. */
import { expect, test } from "vitest";
import { Ifcap } from "../../frontend/net/ifnet.ts";
import { Csum } from "../../frontend/net/mbuf.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import { buildPacket } from "../support/packets.ts";
import { XenPair } from "../support/xen-pair.ts";

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
