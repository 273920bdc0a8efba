/**
 * One TCP connection that counts, for tests that break what lies under it.
 *
 *   node test/support/tcp-peer-worker.ts --listen HOST:PORT      echoes every byte
 *   node test/support/tcp-peer-worker.ts --connect HOST:PORT     sends 32-bit numbers, checks the echo
 *
 * The client answers each line on stdin with {"tag", "echoed", "state"}: how many numbers came
 * back in order, and whether the connection is still the same one ("open", or what ended it).
 */
import { connect, createServer } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { endpoint } from "./chaos-proxy.ts";

const PERIOD_MS = 10;
const LE = true;

const { values: args } = parseArgs({
  options: { listen: { type: "string" }, connect: { type: "string" } },
});

function say(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function echo(address: string): void {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  server.listen(endpoint(address), () => say({ ready: true }));
}

function countEchoes(address: string): void {
  const socket = connect({ ...endpoint(address), noDelay: true });
  let sent = 0;
  let echoed = 0;
  let state = "connecting";
  let rest = Buffer.alloc(0);

  const number = Buffer.alloc(4);
  const view = new DataView(number.buffer, number.byteOffset, 4);
  const timer = setInterval(() => {
    // A connection that stalls is not fed without end.
    if (socket.writableLength > 4096 || state !== "open") return;
    view.setUint32(0, sent++, LE);
    socket.write(Buffer.from(number));
  }, PERIOD_MS);

  socket.on("connect", () => {
    state = "open";
    say({ ready: true });
  });
  socket.on("data", (data: Buffer) => {
    rest = Buffer.concat([rest, data]);
    let at = 0;
    for (; at + 4 <= rest.length; at += 4) {
      const got = rest.readUInt32LE(at);
      if (got !== echoed) state = `number ${got} came in the place of ${echoed}`;
      echoed++;
    }
    rest = rest.subarray(at);
  });
  socket.on("error", (error) => {
    state = error.message;
  });
  socket.on("close", () => {
    if (state === "open") state = "closed";
    clearInterval(timer);
  });
  createInterface({ input: process.stdin }).on("line", (tag) => {
    say({ tag: Number(tag), echoed, state });
  });
}

for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(0));
if (args.listen !== undefined) echo(args.listen);
else if (args.connect !== undefined) countEchoes(args.connect);
else throw new Error("--listen or --connect HOST:PORT");
