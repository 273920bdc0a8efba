/** A request to a device for a capture: how long the client waits, and how it shows a refusal. */
import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, it, vi } from "vitest";
import { openCapture } from "../../cli/capture/stream.ts";
import { FILTER_MS } from "../../shared/capture/filter.ts";

const QUERY = { sources: ["any"], frames: true, ring: false };

let server: Server;
async function serve(listener: RequestListener): Promise<string> {
  server = createServer(listener);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

afterEach(() => {
  vi.useRealTimers();
  server.closeAllConnections();
  server.close();
});

it.each([
  ["five seconds", undefined, 5000],
  ["longer when it has a filter to compile, behind those of others", "ip", 5000 + FILTER_MS],
])("a silent device is given %s", async (_what, filter, ms) => {
  const at = await serve(() => {});
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const asked = openCapture({ connect: at }, { ...QUERY, filter });
  let settled = false;
  const refused = asked.catch((error: Error) => {
    settled = true;
    return error.message;
  });
  await once(server, "request");
  vi.advanceTimersByTime(ms - 1);
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
  expect(settled).toBe(false);
  vi.advanceTimersByTime(1);
  expect(await refused).toMatch(/did not answer/);
});

it("a refusal is one line that no terminal obeys", async () => {
  const at = await serve((_request, response) => {
    response.writeHead(404, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: "no\u001b[2J NIC\nroot# \u009b31m" }));
  });
  await expect(openCapture({ connect: at }, QUERY)).rejects.toThrow(
    "no\ufffd[2J NIC\ufffdroot# \ufffd31m",
  );
});
