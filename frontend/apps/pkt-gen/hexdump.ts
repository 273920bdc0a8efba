/** Bytes as text for the user: per line an offset, sixteen bytes in hex, and the same as ASCII. */
import type { NetmapRing } from "../../netmap/ring.ts";
import type { AppPort } from "../app.ts";

const WIDTH = 16;

/** Option -X: prints a packet on stderr, in the format of netmap's pkt-gen. */
export function dumpSlot(
  port: AppPort,
  ring: NetmapRing,
  slot: number,
  bytes: Uint8Array,
  length: number,
): void {
  const head = `${port.name} ring ${ring.ringId} cur ${slot} [buf ${ring.bufIdx(slot)} flags 0x${ring.slotFlags(slot).toString(16)} len ${length}]`;
  process.stderr.write(`${head}\n${hexdump(bytes.subarray(0, length))}\n`);
}

/** Returns the dump. `base` is the offset printed for the first byte, for example an address. */
export function hexdump(bytes: Uint8Array, base = 0): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += WIDTH) {
    const row = bytes.subarray(at, at + WIDTH);
    const hex = Array.from(row, (b) => b.toString(16).padStart(2, "0"));
    const left = hex.slice(0, WIDTH / 2).join(" ");
    const right = hex.slice(WIDTH / 2).join(" ");
    const text = Array.from(row, (b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : "."));
    const offset = (base + at).toString(16).padStart(8, "0");
    lines.push(`${offset}  ${left.padEnd(23)}  ${right.padEnd(23)}  |${text.join("")}|`);
  }
  return lines.join("\n");
}
