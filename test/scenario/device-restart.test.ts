/** The device is killed under an open TCP connection and started again. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ping } from "../support/iperf.ts";
import { Lab, MIXES } from "../support/lab.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import { type Child, eventually, startScript } from "../support/process.ts";

const why = whyNoNamespaces();
/** The promise: a connection goes on within this time of the device's return. */
const GOES_ON_MS = 10_000;
const ECHO_PORT = 7007;

interface Count {
  readonly echoed: number;
  readonly state: string;
}

describe.skipIf(why !== undefined).each(MIXES)(
  `a device that dies and comes back, $mix${why ? `: ${why}` : ""}`,
  ({ drivers }) => {
    let lab: Lab;
    let device: Child;
    let frontends: Child[];
    let server: Child;
    let client: Child;
    let question = 0;

    const ask = async (): Promise<Count> => {
      const tag = ++question;
      client.tell(String(tag));
      return await client.waitForJson<Count & { tag: number }>((line) => line.tag === tag);
    };

    beforeAll(async () => {
      lab = new Lab(2, drivers);
      device = await lab.startDevice();
      frontends = await Promise.all([lab.startFrontend(0), lab.startFrontend(1)]);
      const address = `${lab.host(1).address}:${ECHO_PORT}`;
      const script = "test/support/tcp-peer-worker.ts";
      server = startScript(script, ["--listen", address], { namespace: lab.host(1).namespace });
      await server.waitForJson((line) => line.ready === true);
      client = startScript(script, ["--connect", address], { namespace: lab.host(0).namespace });
      await client.waitForJson((line) => line.ready === true);
    });

    afterAll(async () => {
      await client?.stop();
      await server?.stop();
      await lab.close();
    });

    it.each([1, 2, 3])("fault-K1: keeps interface and connection, time %i", async () => {
      const before = await eventually("echoes", async () => {
        const count = await ask();
        return count.echoed > 0 ? count : undefined;
      });
      expect(before.state).toBe("open");
      const links = [lab.tap(0), lab.tap(1)];

      device.signal("SIGKILL");
      await device.exited;
      for (const i of [0, 1]) {
        const link = await lab.carrier(i, false);
        expect(link.index).toBe(links[i]?.index);
      }
      const during = await ask();
      expect(during.state).toBe("open");

      device = await lab.startDevice();
      for (const i of [0, 1]) {
        const link = await lab.carrier(i, true);
        expect(link.index).toBe(links[i]?.index);
        expect(link.mac).toBe(links[i]?.mac);
      }
      await eventually(
        () => `the connection to go on\n${frontends.map((child) => child.said()).join("\n")}`,
        async () => {
          const { echoed, state } = await ask();
          expect(state).toBe("open");
          return echoed > during.echoed + 10 || undefined;
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
