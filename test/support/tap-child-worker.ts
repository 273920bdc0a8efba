/**
 * A process that opens a TAP, for tests of rights, crashes and ways to start.
 *
 *   node tap-child-worker.ts '{"name":"rw0"}'        one line of JSON on stdout: opened or refused
 *
 * Then the process waits for a word on stdin: "close" closes the TAP and ends, "exit" calls
 * process.exit with the TAP open, "throw" ends by an exception.
 */
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
import type { openTap as OpenTap, TapOptions } from "../../shared/tap/tap.ts";

interface Wish {
  readonly name: string;
  readonly mac?: number[];
  readonly mtu?: number;
  /** Import `openTap` from this file instead: compiled code. */
  readonly from?: string;
}

const wish = JSON.parse(process.argv[2] ?? "{}") as Wish;
const from =
  wish.from === undefined
    ? new URL("../../shared/tap/tap.ts", import.meta.url)
    : pathToFileURL(wish.from);
const { openTap } = (await import(from.href)) as { openTap: typeof OpenTap };

const warnings: string[] = [];
const note = (_fields: object, message: string): void => void warnings.push(message);
const options: TapOptions = {
  name: wish.name,
  offloads: true,
  log: { debug() {}, info() {}, warn: note, error: note },
  ...(wish.mac === undefined ? {} : { mac: Uint8Array.from(wish.mac) }),
  ...(wish.mtu === undefined ? {} : { mtu: wish.mtu }),
};

const tap = await openTap(options).catch((error: { code: string; message: string }) => {
  console.log(JSON.stringify({ refused: { code: error.code, message: error.message } }));
  return undefined;
});
if (tap !== undefined) {
  const { existing, mtu, up } = tap;
  console.log(JSON.stringify({ opened: { existing, mtu, up, mac: [...tap.mac] }, warnings }));
  const word = (await text(process.stdin)).trim();
  if (word === "exit") process.exit(3);
  if (word === "throw") throw new Error("as asked");
  await tap.close();
}
