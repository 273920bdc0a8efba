/**
 * Measures how an attack on the HTTP side disturbs the NICs: npm run bench -- http.
 *
 *   pair ── frames ──► device ──► pair       a frame each 5 ms, both ways: the longest silence
 *   guests ── hello ──►   ▲ ▲                many NICs, and a full address table
 *          stranger ──────┘ └── /livez, and a NIC that joins
 *
 * README.md in this folder explains the figures.
 */
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import process from "node:process";
import { parseArgs } from "node:util";
import { type Child, NODE, sleep, start, startScript } from "../support/process.ts";
import { broadcast, RawEna } from "../support/raw-ena.ts";
import { RawFrontend } from "../support/raw-frontend.ts";
import { describeMachine } from "./machine.ts";

const PIPELINED_BYTES = 70_000;
const IDLE = 1024;
const ATTACK_MS = 3000;
/** Number of NICs, each with as many addresses as one port may learn. */
const FILLERS = 16;
const ADDRESSES = 1024;
const HELP = `npm run bench -- http [--guests N] [--device "COMMAND ..."] [--json]

  --guests N    NICs beside the pair (64)
  --device CMD  another device: its command line up to "device" (this one's dist)
  --json        figures on stdout as JSON
`;

interface Row {
  readonly attack: string;
  readonly silenceMs: number;
  readonly growthMb: number;
  readonly livezMs: number | undefined;
  readonly joinMs: number | undefined;
  readonly linksLost: number;
}

const request = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`;

function dial(port: number, text: string): Socket {
  const socket = connect({ host: "127.0.0.1", port });
  socket.on("error", () => {
    // A device that refuses a connection may reset it.
  });
  if (text !== "") socket.write(text);
  return socket;
}

/** One connection, many requests; the answers are not read. */
function pipelined(port: number, path: string): Socket[] {
  const one = request(path);
  const socket = dial(port, one.repeat(Math.ceil(PIPELINED_BYTES / one.length)));
  socket.pause();
  return [socket];
}

const idle = (port: number, first: (i: number) => string): Socket[] =>
  Array.from({ length: IDLE }, (_, i) => dial(port, first(i)));

const ATTACKS: readonly (readonly [string, (port: number) => Socket[]])[] = [
  ["none (control)", () => []],
  ["pipelined /status", (port) => pipelined(port, "/status")],
  ["pipelined /metrics", (port) => pipelined(port, "/metrics")],
  ["1024 silent", (port) => idle(port, () => "")],
  ["1024 half a request", (port) => idle(port, () => "GET /status HTTP/1.1\r\n")],
  ["1024 answered once", (port) => idle(port, () => request("/livez"))],
  ["64 ask /status at once", (port) => idle(port, (i) => (i < 64 ? request("/status") : ""))],
  ["64 ask /metrics at once", (port) => idle(port, (i) => (i < 64 ? request("/metrics") : ""))],
];

/** Milliseconds until `what` resolves; undefined when it fails or takes too long. */
async function timed(what: () => Promise<boolean>): Promise<number | undefined> {
  const begin = performance.now();
  const late = sleep(ATTACK_MS).then(() => false);
  const done = await Promise.race([what().catch(() => false), late]);
  return done ? Math.round(performance.now() - begin) : undefined;
}

async function answers(port: number, path: string): Promise<boolean> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  await response.arrayBuffer();
  return response.ok;
}

let joins = 0;
async function joinsIn(port: number): Promise<boolean> {
  const guest = await RawFrontend.join(port, `late${++joins}`);
  const survived = await guest.survived();
  await guest.end();
  return survived;
}

const rssMb = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;

interface Told {
  readonly silenceMs: number;
  readonly reconnects: number;
}

/** A pair of NICs in a process of its own that reports the longest gap between two frames. */
class Pair {
  readonly #child: Child;
  #tag = 0;

  constructor(url: string) {
    this.#child = startScript("test/bench/silence-worker.ts", ["--connect", url]);
  }

  async ready(): Promise<void> {
    await this.#child.waitForJson((value) => value["ready"] === true);
  }

  /** The longest gap since the last call. */
  async silence(): Promise<Told> {
    const tag = ++this.#tag;
    this.#child.tell(String(tag));
    return await this.#child.waitForJson<Told>((value) => value["tag"] === tag, 120_000);
  }

  async stop(): Promise<void> {
    await this.#child.stop();
  }
}

/** NICs that fill the address table together: 16,384 addresses, 1024 behind each port. */
async function fill(port: number, count: number): Promise<RawEna[]> {
  const guests: RawEna[] = [];
  for (let i = 0; i < count; i++) {
    const { ena, tx } = await RawEna.startWithQueues(port, `guest${i}`);
    guests.push(ena);
    if (i >= FILLERS) continue;
    for (let n = 0; n < ADDRESSES; n++) {
      // A frame to its own source: the switch learns the address and forwards nothing.
      const address = [6, 0, 0, i, n >> 8, n & 0xff];
      const frame = broadcast(60, address);
      frame.set(address, 0);
      ena.transmit(tx, frame);
      if (n % tx.sq.depth === tx.sq.depth - 1) await ena.raw.survived();
    }
  }
  return guests;
}

async function measure(
  name: string,
  attack: (port: number) => Socket[],
  command: readonly string[],
  guestCount: number,
): Promise<Row> {
  const child = start([...command, "device", "--listen", "127.0.0.1:0", "--json"]);
  const { port } = await child.waitForJson<{ port: number }>((v) => v["event"] === "listening");
  const pair = new Pair(`ws://127.0.0.1:${port}`);
  let sockets: Socket[] = [];
  try {
    await pair.ready();
    const guests = await fill(port, guestCount);
    await answers(port, "/status");
    await answers(port, "/metrics");
    const before = rssMb(child.pid!);
    let peak = before;
    const watch = setInterval(() => {
      peak = Math.max(peak, rssMb(child.pid!));
    }, 50);
    await pair.silence();
    sockets = attack(port);
    await sleep(100);
    const [livezMs, joinMs] = await Promise.all([
      timed(() => answers(port, "/livez")),
      timed(() => joinsIn(port)),
    ]);
    await sleep(ATTACK_MS);
    const { silenceMs, reconnects } = await pair.silence();
    clearInterval(watch);
    for (const guest of guests) guest.raw.ws.terminate();
    return {
      attack: name,
      silenceMs: Math.round(silenceMs),
      growthMb: Math.round(peak - before),
      livezMs,
      joinMs,
      linksLost: reconnects,
    };
  } finally {
    for (const socket of sockets) socket.destroy();
    await pair.stop();
    await child.stop();
  }
}

function table(rows: readonly Row[]): string {
  const heading = ["attack", "longest silence", "memory", "/livez", "new NIC", "links lost"];
  const ms = (value: number | undefined) => (value === undefined ? "no answer" : `${value} ms`);
  const lines = rows.map((row) => [
    row.attack,
    ms(row.silenceMs),
    `+${row.growthMb} MB`,
    ms(row.livezMs),
    ms(row.joinMs),
    String(row.linksLost),
  ]);
  return [heading, ...lines]
    .map((line) => line.map((cell, i) => (i === 0 ? cell.padEnd(26) : cell.padStart(16))).join(""))
    .join("\n");
}

export async function httpAttacks(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      guests: { type: "string", default: "64" },
      device: { type: "string" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return;
  }
  const guests = Number(values.guests);
  if (!Number.isInteger(guests) || guests < 0) {
    throw new TypeError(`--guests takes a whole number, not "${values.guests}"`);
  }
  const command = values.device?.split(" ") ?? [NODE, "dist/cli/ringwire.js"];
  const machine = describeMachine();
  const rows: Row[] = [];
  for (const [name, attack] of ATTACKS) {
    process.stderr.write(`${name}\n`);
    rows.push(await measure(name, attack, command, guests));
  }
  if (values.json) process.stdout.write(`${JSON.stringify({ machine, guests, rows }, null, 2)}\n`);
  else {
    const { cpu, cores, node, load } = machine;
    process.stdout.write(`${cpu}, ${cores} cores, Node ${node}, load ${load.toFixed(2)} before\n`);
    process.stdout.write(`${guests + 2} NICs\n\n${table(rows)}\n`);
  }
}
