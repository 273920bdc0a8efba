/** A device that asks a NIC to move, and a frontend that does not hear. */
import { afterEach, expect, it, vi } from "vitest";
import { CloseCode } from "../../shared/wire/transactions.ts";
import { deviceServer } from "../support/device-server.ts";
import { RawFrontend } from "../support/raw-frontend.ts";

afterEach(() => {
  vi.useRealTimers();
});

it("a NIC that did not leave in time may be asked again, and leave then", async () => {
  const server = deviceServer({ maxQueues: 1 });
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
