/**
 * A NIC that floods the services of its segment: DHCP as a thousand clients, pings, queries and
 * random bytes. An honest NIC still gets a lease, and an answer to its query.
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Nic, openNic } from "../../frontend/index.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import { eventually } from "../support/process.ts";
import { datagram, dhcpMessage } from "../support/service-stage.ts";
import type { DeviceStatus } from "../support/status.ts";

const FRAMES = 20_000;
const CLIENTS = 1000;
const SERVER = [10, 0, 0, 1];
const NOWHERE = [0, 0, 0, 0];
const ALL = { mac: new Array<number>(6).fill(255), ip: [255, 255, 255, 255], port: 67 };
const DISCOVER = 1;

let stage: HostileStage;

beforeAll(async () => {
  stage = await HostileStage.openMixed("--dhcp", "10.0.0.1/24");
});

afterAll(async () => {
  await stage?.close();
});

type Services = NonNullable<DeviceStatus["segments"][number]["services"]>;
const services = async (): Promise<Services> => (await stage.status()).segments[0]!.services!;

const open = (name: string): Promise<Nic> => openNic({ connect: stage.device.url, name });

function hostileFrame(nic: Nic, server: readonly number[], i: number): Uint8Array {
  const { random } = stage;
  const own = [...nic.ifnet.mac];
  const other = [2, 0xee, 0, 0, ...[(i % CLIENTS) >>> 8, i & 255]];
  const to = { mac: server, ip: SERVER };
  switch (random.below(5)) {
    case 0:
      return datagram(
        { mac: other, ip: NOWHERE },
        { ...ALL, mac: server },
        dhcpMessage(other, DISCOVER),
      );
    case 1:
      return datagram({ mac: other, ip: NOWHERE }, ALL, dhcpMessage(other, 1 + random.below(9)));
    case 2: {
      const bytes = Uint8Array.from({ length: random.below(500) }, () => random.below(256));
      return datagram(
        { mac: own, ip: [10, 0, 0, 9] },
        { ...to, port: random.pick([53, 67]) },
        bytes,
      );
    }
    case 3:
      return Uint8Array.from({ length: 60 + random.below(1000) }, (_, at) =>
        at < 6 ? server[at]! : at < 12 ? own[at - 6]! : random.below(256),
      );
    default: {
      const frame = datagram(
        { mac: own, ip: [10, 0, 0, 9] },
        { ...to, port: 53 },
        new Uint8Array(30),
      );
      frame[random.below(frame.length - 12) + 12]! ^= 1 << random.below(8);
      return frame;
    }
  }
}

it("a flood of one NIC leaves others their leases, and the device whole", async () => {
  const server = (await services()).mac.split(":").map((byte) => Number.parseInt(byte, 16));
  {
    await using hostile = await open(stage.name());
    await using honest = await open(stage.name());
    await honest.settled();
    const received = honest[Symbol.asyncIterator]();
    for (let i = 0; i < FRAMES; i++) await hostile.send(hostileFrame(hostile, server, i));
    const { unanswered, dhcp } = await services();
    // The clients of one port have at most a quarter of the pool, which has 127 addresses.
    expect(dhcp!.offers + dhcp!.leases + dhcp!.declined).toBeLessThanOrEqual(32);
    expect(dhcp!.list.every(({ nic }) => nic === "")).toBe(true);
    expect(unanswered["port_rate"]).toBeGreaterThan(0);

    const mac = [...honest.ifnet.mac];
    const ask = datagram({ mac, ip: NOWHERE }, ALL, dhcpMessage(mac, DISCOVER));
    const isOffer = (frame: Uint8Array) => frame[284] === 2 && frame[36] === 0 && frame[37] === 68;
    await honest.send(ask);
    for (;;) {
      const { value } = await received.next();
      if (value !== undefined && isOffer(value)) break;
    }
    await eventually("an offer for the honest NIC", async () => {
      const list = (await services()).dhcp!.list;
      return list.some(({ nic }) => nic === honest.ifnet.name) || undefined;
    });
  }
  await stage.unharmed();
});
