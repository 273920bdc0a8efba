/** A device that asks a NIC to move, and a frontend that does not hear. */
import { afterEach, expect, it, vi } from "vitest";
import { createEnaNic } from "../../device/ena/index.ts";
import { DeviceServer } from "../../device/server.ts";
import { Switch } from "../../device/switch/switch.ts";
import { silentLogger } from "../../shared/log.ts";
import { CloseCode } from "../../shared/wire/transactions.ts";
import { RawFrontend } from "../support/raw-frontend.ts";

afterEach(() => {
  vi.useRealTimers();
});

it("a NIC that did not leave in time may be asked again, and leave then", async () => {
  const server = new DeviceServer({
    host: "127.0.0.1",
    port: 0,
    agent: "test",
    segment: new Switch({ name: "lan0", now: () => performance.now(), whenFull: "drop" }),
    segmentName: "lan0",
    personalities: { ena: { create: (host) => createEnaNic(host, { llq: false }) } },
    pushBytes: 1 << 20,
    maxMtu: 1500,
    maxQueues: 1,
    log: silentLogger,
  });
  const { port } = await server.listen();
  const raw = await RawFrontend.join(port, "deaf");
  try {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const first = server.migrate("deaf", "ws://127.0.0.1:1/nic");
    expect(await server.migrate("deaf", "ws://127.0.0.1:1/nic")).toMatchObject({ status: 409 });
    vi.runOnlyPendingTimers();
    expect(await first).toMatchObject({
      status: 409,
      error: expect.stringMatching(/did not leave within 15 s/),
    });
    vi.useRealTimers();

    const second = server.migrate("deaf", "ws://127.0.0.1:2/nic");
    await raw.until("the second", ([what, url]) => what === "move" && /:2\//.test(String(url)));
    raw.ws.close(CloseCode.MOVED, "moved");
    expect(await second).toBeUndefined();
  } finally {
    await server.close();
  }
});
