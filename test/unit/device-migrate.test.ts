/** A device that asks a NIC to move, and a frontend that does not answer. */
import { afterEach, expect, it, vi } from "vitest";
import { CloseCode } from "../../shared/wire/protocol.ts";
import { testDevice } from "../support/device-server.ts";
import { RawFrontend } from "../support/raw-frontend.ts";

afterEach(() => {
  vi.useRealTimers();
});

it("a NIC that did not leave in time may be asked again, and leave then", async () => {
  const device = await testDevice({ maxQueues: 1 });
  const { port } = device;
  const raw = await RawFrontend.join(port, "deaf");
  try {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const first = device.migrate("deaf", "ws://127.0.0.1:1/nic");
    expect(await device.migrate("deaf", "ws://127.0.0.1:1/nic")).toMatchObject({ status: 409 });
    vi.runOnlyPendingTimers();
    expect(await first).toMatchObject({
      status: 409,
      error: expect.stringMatching(/did not leave within 15 s/),
    });
    vi.useRealTimers();

    const second = device.migrate("deaf", "ws://127.0.0.1:2/nic");
    await raw.until("the second", ([what, url]) => what === "move" && /:2\//.test(String(url)));
    raw.ws.close(CloseCode.MOVED, "moved");
    expect(await second).toBeUndefined();
  } finally {
    await device.close();
  }
});

it("ux-S9 a NIC that would come back to this device is not suspended, and 409 says why", async () => {
  const device = await testDevice({ maxQueues: 1 });
  const { port } = device;
  const raw = await RawFrontend.join(port, "stays");
  try {
    for (const host of ["127.0.0.1", "localhost"]) {
      const answer = await fetch(`http://127.0.0.1:${port}/migrate`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ nic: "stays", to: `${host}:${port}` }),
      });
      expect(answer.status).toBe(409);
      expect(await answer.text()).toMatch(/stays is at .* already: that is this device/);
    }
    // The refused moves were not sent to the frontend, so this one is the first.
    const moved = device.migrate("stays", "ws://127.0.0.1:1/nic");
    expect(await raw.until("a move", ([what]) => what === "move")).toContain(
      "ws://127.0.0.1:1/nic",
    );
    raw.ws.close(CloseCode.MOVED, "moved");
    expect(await moved).toBeUndefined();
  } finally {
    await device.close();
  }
});
