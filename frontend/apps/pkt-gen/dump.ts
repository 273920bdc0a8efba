/** Option -X: prints a packet on stderr, in the format of netmap's pkt-gen. */

import type { NetmapRing } from "../../netmap/ring.ts";
import type { AppPort } from "../app.ts";
import { hexdump } from "./hexdump.ts";

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
