/** The device is killed under an open TCP connection and started again. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ping } from "../support/iperf.ts";
import { Lab, MIXES } from "../support/lab.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import { type Child, eventually } from "../support/process.ts";
import { TcpPeer } from "../support/tcp-peer.ts";

const why = whyNoNamespaces();
/** The promise: after the device's return, a connection continues within this time. */
const GOES_ON_MS = 10_000;

describe.skipIf(why !== undefined).each(MIXES)(
  `a device that dies and comes back, $mix${why ? `: ${why}` : ""}`,
  ({ drivers }) => {
    let lab: Lab;
    let device: Child;
    let frontends: Child[];
    let peer: TcpPeer;

    beforeAll(async () => {
      lab = new Lab(2, drivers);
      device = await lab.startDevice();
      frontends = await Promise.all([lab.startFrontend(0), lab.startFrontend(1)]);
      peer = await TcpPeer.open(lab.host(0), lab.host(1));
    });

    afterAll(async () => {
      peer?.close();
      await lab.close();
    });

    it.each([1, 2, 3])("fault-K1: keeps interface and connection, time %i", async () => {
      await eventually("echoes", () => peer.echoed > 0 || undefined);
      expect(peer.state).toBe("open");
      const links = [lab.tap(0), lab.tap(1)];

      device.signal("SIGKILL");
      await device.exited;
      for (const i of [0, 1]) {
        const link = await lab.carrier(i, false);
        expect(link.ifindex).toBe(links[i]?.ifindex);
      }
      const during = peer.echoed;
      expect(peer.state).toBe("open");

      device = await lab.startDevice();
      for (const i of [0, 1]) {
        const link = await lab.carrier(i, true);
        expect(link.ifindex).toBe(links[i]?.ifindex);
        expect(link.address).toBe(links[i]?.address);
      }
      await eventually(
        () => `the connection to go on\n${frontends.map((child) => child.said()).join("\n")}`,
        () => {
          expect(peer.state).toBe("open");
          return peer.echoed > during + 10 || undefined;
        },
        GOES_ON_MS,
      );
      for (const frontend of frontends) expect(frontend.exit).toBeUndefined();
    });

    it("pings without loss afterwards", async () => {
      const { sent, received, duplicates } = await ping({
        from: lab.host(0).namespace,
        address: lab.host(1).address,
        count: 50,
        intervalSeconds: 0.02,
      });
      expect({ received, duplicates }).toEqual({ received: sent, duplicates: 0 });
    });
  },
);
