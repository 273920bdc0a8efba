/**
 * One of the three processes of the limit: source, relay or sink, over two bare `ws` links, without
 * driver, rings or switch. A message is n frames end to end, without lengths.
 *
 *   source ──(client, masked)──► relay ──(server, unmasked)──► sink
 *
 * Without --copy no process touches a frame's bytes: the source sends one prebuilt buffer again and
 * again, and the relay sends the bytes that it received. (`ws` itself copies while it masks with a
 * random key.) With --copy each process copies each frame once, as a real device or driver has to.
 *
 * All queues are bounded: the source waits for its socket, and the relay pauses the source while
 * the sink is slow. The product's link never pauses reading. The relay may, because there is no
 * control traffic that could starve.
 */
import { createServer } from "node:http";
import type { Socket } from "node:net";
import process from "node:process";
import { parseArgs } from "node:util";
import WebSocket, { WebSocketServer } from "ws";
import { copyBytes } from "../../shared/bytes/copy.ts";

/** Unsent bytes above which the relay stops reading its source. */
const HIGH_BYTES = 1 << 20;
/** Bytes that leave the source in one system call, and how many such bursts it keeps under way. */
const BURST_BYTES = 128 << 10;
const BURSTS = 2;
/** Frame slots that a copying process uses in turn: more full-size frames than a cache holds. */
const SLOTS = 1024;
const WARM_UP_MS = 400;

const WS_OPTIONS = { perMessageDeflate: false, maxPayload: 1 << 20 } as const;

const { values: args } = parseArgs({
  options: {
    role: { type: "string" },
    port: { type: "string", default: "0" },
    frame: { type: "string", default: "60" },
    batch: { type: "string", default: "64" },
    seconds: { type: "string", default: "1" },
    copy: { type: "boolean", default: false },
    "zero-mask": { type: "boolean", default: false },
  },
});
const frameBytes = Number(args.frame);
const messageBytes = frameBytes * Number(args.batch);
const url = `ws://127.0.0.1:${args.port}`;

/**
 * Free message buffers. The send callback returns a buffer, because the socket reads it until then.
 */
const free: Buffer[] = [];
const takeBuffer = (): Buffer => free.pop() ?? Buffer.allocUnsafeSlow(messageBytes);

const slots = args.copy ? Buffer.alloc(SLOTS * frameBytes, 0xa5) : Buffer.alloc(0);
let slot = 0;

/** Gathers a message from frame slots, one copy a frame. */
function gather(message: Buffer): void {
  for (let at = 0; at < messageBytes; at += frameBytes) {
    copyBytes(slots, slot * frameBytes, message, at, frameBytes);
    slot = (slot + 1) % SLOTS;
  }
}

/** Copies each frame of a message to its slot. */
function scatter(message: Buffer): void {
  for (let at = 0; at < messageBytes; at += frameBytes) {
    copyBytes(message, at, slots, slot * frameBytes, frameBytes);
    slot = (slot + 1) % SLOTS;
  }
}

/** Copies each frame of a message into another. */
function copyFrames(from: Buffer, to: Buffer): void {
  for (let at = 0; at < messageBytes; at += frameBytes) {
    copyBytes(from, at, to, at, frameBytes);
  }
}

/** The TCP socket below, for cork: `ws` keeps it private. */
function socketOf(ws: WebSocket): Socket {
  return (ws as unknown as { _socket: Socket })._socket;
}

function connect(path: string): WebSocket {
  const ws = new WebSocket(url + path, {
    ...WS_OPTIONS,
    ...(args["zero-mask"] ? { generateMask: () => {} } : {}),
  });
  ws.on("open", () => socketOf(ws).setNoDelay(true));
  ws.on("error", fail);
  return ws;
}

function fail(error: Error): never {
  process.stderr.write(`${args.role}: ${error.message}\n`);
  process.exit(1);
}

function say(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function source(): void {
  const ws = connect("/source");
  const prebuilt = Buffer.alloc(messageBytes, 0xa5);
  const burst = Math.max(1, Math.floor(BURST_BYTES / messageBytes));

  const pump = () => {
    const socket = socketOf(ws);
    socket.cork();
    for (let i = burst; i > 0; i--) {
      let message: Buffer = prebuilt;
      if (args.copy) {
        message = takeBuffer();
        gather(message);
      }
      // Without a copy only the last message of a burst needs a callback.
      if (args.copy) {
        ws.send(message, () => {
          free.push(message);
          if (i === 1) pump();
        });
      } else if (i > 1) ws.send(message);
      else ws.send(message, pump);
    }
    socket.uncork();
  };
  ws.on("open", () => {
    for (let i = 0; i < BURSTS; i++) pump();
  });
  ws.on("close", () => process.exit(0));
}

function relay(): void {
  const http = createServer();
  const server = new WebSocketServer({ ...WS_OPTIONS, server: http });
  let sink: WebSocket | undefined;
  let corked = false;

  const uncork = () => {
    corked = false;
    if (sink !== undefined) socketOf(sink).uncork();
  };
  server.on("connection", (ws, request) => {
    socketOf(ws).setNoDelay(true);
    ws.on("error", fail);
    ws.on("close", () => process.exit(0));
    if (request.url === "/sink") {
      sink = ws;
      return;
    }
    let paused = false;
    const gone = () => {
      if (!paused || sink === undefined || sink.bufferedAmount > HIGH_BYTES / 2) return;
      paused = false;
      ws.resume();
    };
    ws.on("message", (data) => {
      if (sink === undefined) return;
      if (!corked) {
        corked = true;
        socketOf(sink).cork();
        // Runs after this read has been parsed completely and before the next one.
        process.nextTick(uncork);
      }
      if (args.copy) {
        const message = takeBuffer();
        copyFrames(data as Buffer, message);
        sink.send(message, () => {
          free.push(message);
          gone();
        });
      } else if (paused) sink.send(data, gone);
      else sink.send(data);
      if (!paused && sink.bufferedAmount > HIGH_BYTES) {
        paused = true;
        ws.pause();
        // Messages are sent in order: when the ping is gone, all messages before it are gone too.
        sink.ping(undefined, undefined, gone);
      }
    });
  });
  http.listen(Number(args.port), "127.0.0.1", () => {
    const address = http.address();
    if (address === null || typeof address === "string") throw new Error("no TCP address");
    say({ ready: true, port: address.port });
  });
}

function sinkRole(): void {
  const ws = connect("/sink");
  let messages = 0;
  let bytes = 0;
  let began = false;

  ws.on("open", () => say({ ready: true }));
  ws.on("message", (data) => {
    messages++;
    bytes += (data as Buffer).length;
    if (args.copy) scatter(data as Buffer);
    if (began) return;
    began = true;
    setTimeout(measure, WARM_UP_MS);
  });
  ws.on("close", () => process.exit(0));

  const measure = () => {
    const messagesAt = messages;
    const bytesAt = bytes;
    const at = performance.now();
    setTimeout(() => {
      const seconds = (performance.now() - at) / 1000;
      const frames = (bytes - bytesAt) / frameBytes;
      say({ frames, messages: messages - messagesAt, seconds });
      process.exit(0);
    }, Number(args.seconds) * 1000);
  };
}

switch (args.role) {
  case "source":
    source();
    break;
  case "relay":
    relay();
    break;
  case "sink":
    sinkRole();
    break;
  default:
    fail(new Error("--role source, relay or sink"));
}
