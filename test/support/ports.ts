/** TCP ports on loopback that are free now, for tests in the namespace of the test itself. */
import { createServer } from "node:net";

/** A port that was free a moment ago. Where a program can listen on port 0, let it. */
export async function freePort(): Promise<number> {
  const server = createServer();
  const listening = Promise.withResolvers<void>();
  server.once("error", listening.reject);
  server.listen(0, "127.0.0.1", listening.resolve);
  await listening.promise;
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  if (address === null || typeof address === "string") throw new Error("no TCP address");
  return address.port;
}
