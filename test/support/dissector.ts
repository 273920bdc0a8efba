/**
 * Captures of batches, and tshark's output for them with the project's dissector.
 *
 *   RingFile ── batch(...) ──► pcapng in a temporary folder ── dissect ──► Packet[]
 */
import { execFile } from "node:child_process";
import { mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  LinkDirection,
  RING_PREFIX_BYTES,
  RingPersonality,
  writeRingPrefix,
} from "../../shared/capture/ring-header.ts";
import { BlockBuffer } from "../../shared/pcapng/block-buffer.ts";
import { PcapngWriter } from "../../shared/pcapng/writer.ts";
import { ROOT } from "./process.ts";
import { slow } from "./slowness.ts";

const execute = promisify(execFile);
const LIMITS = { maxBuffer: 1 << 28, timeout: slow(120_000) };

export const DISSECTOR = join(ROOT, "cli/wireshark/plugin/ringwire.lua");

/** Link types of a capture's interface. */
export const ETHERNET = 1;
export const USER0 = 147;
const UPPER_PDU = 252;

export interface BatchFacts {
  readonly epoch?: number;
  readonly personality?: RingPersonality;
  /** Bytes of the batch that the capture kept. */
  readonly snap?: number;
  /** Packets that the capture lost before this one. */
  readonly drops?: number;
  /** Part of the snapshot with which captures of older versions begin. */
  readonly oldSnapshot?: boolean;
}

/** A capture file of one interface, written when its bytes are asked for. */
export class RingFile {
  readonly #out = new BlockBuffer(1 << 16);
  readonly #writer = new PcapngWriter(this.#out);
  readonly #linkType: number;
  packets = 0;

  constructor(linkType = UPPER_PDU) {
    this.#linkType = linkType;
    this.#writer.section({ application: "test" });
    this.#writer.interface({ linkType, snapLength: 0, name: "ring" });
  }

  /** A part of a state record. Returns its frame number. */
  state(part: Uint8Array, facts?: BatchFacts): number {
    return this.batch(LinkDirection.TO_DEVICE, part, facts, true);
  }

  /** A batch as it crossed the link. Returns its frame number. */
  batch(
    direction: LinkDirection,
    bytes: Uint8Array,
    facts: BatchFacts = {},
    isState = false,
  ): number {
    const prefix = new Uint8Array(RING_PREFIX_BYTES);
    const personality = facts.personality ?? RingPersonality.ENA;
    const out = { bytes: prefix, view: new DataView(prefix.buffer) };
    writeRingPrefix(out, 0, direction, facts.epoch ?? 1, personality, isState);
    if (facts.oldSnapshot === true) prefix[RING_PREFIX_BYTES - 7] = 1;
    // USER0 has no tags in front: the header begins where the names end.
    const head = this.#linkType === USER0 ? prefix.subarray(RING_PREFIX_BYTES - 16) : prefix;
    const kept = bytes.subarray(0, facts.snap ?? bytes.length);
    return this.packet(Buffer.concat([head, kept]), head.length + bytes.length, facts.drops);
  }

  toDevice = (bytes: Uint8Array, facts?: BatchFacts): number =>
    this.batch(LinkDirection.TO_DEVICE, bytes, facts);
  toFrontend = (bytes: Uint8Array, facts?: BatchFacts): number =>
    this.batch(LinkDirection.TO_FRONTEND, bytes, facts);

  /** Any packet. Returns its frame number. */
  packet(bytes: Uint8Array, original = bytes.length, drops = 0): number {
    const ns = 1_700_000_000_000_000_000n + BigInt(this.packets) * 1_000_000n;
    const time = { timeHigh: Number(ns >> 32n), timeLow: Number(ns & 0xffffffffn) };
    const lengths = { captured: bytes.length, original, drops };
    const rest = { interface: 0, flags: 0, queue: -1, id: 0, note: undefined };
    const at = this.#writer.packet({ ...time, ...lengths, ...rest });
    this.#out.bytes.set(bytes, at);
    return ++this.packets;
  }

  bytes(): Uint8Array {
    return this.#out.written();
  }
}

/** Nested layers in the form of `tshark -T json`. */
type Json = { readonly [key: string]: Json } | readonly Json[] | string;

/** One packet in tshark's output. */
export class Packet {
  /** Fields and layers by name, in the order of the tree. */
  readonly #items = new Map<string, Json[]>();

  constructor(layers: Json) {
    this.#collect(layers);
  }

  #collect(value: Json): void {
    if (typeof value === "string") return;
    for (const [key, inner] of Object.entries(value)) {
      const items = Array.isArray(inner) ? (inner as readonly Json[]) : [inner as Json];
      const known = this.#items.get(key) ?? [];
      this.#items.set(key, known);
      for (const item of items) {
        known.push(item);
        this.#collect(item);
      }
    }
  }

  /** Every value of a field. */
  all(name: string): readonly string[] {
    return (this.#items.get(name) ?? []).filter((item) => typeof item === "string");
  }

  /** The only value of a field. */
  one(name: string): string {
    const all = this.all(name);
    const [value] = all;
    if (value === undefined || all.length > 1) {
      throw new Error(`${name} has ${all.length} values: ${all.join(", ")}`);
    }
    return value;
  }

  /** The only value of a field as a number, decimal or hexadecimal. */
  number(name: string): number {
    return Number(this.one(name));
  }

  numbers(name: string): readonly number[] {
    return this.all(name).map(Number);
  }

  has(name: string): boolean {
    return this.#items.has(name);
  }

  /** Names of the dissector's own expert items: "phase", "req_id". */
  get experts(): readonly string[] {
    const prefix = "ringwire.expert.";
    return [...this.#items].flatMap(([key, items]) =>
      key.startsWith(prefix) ? items.map(() => key.slice(prefix.length)) : [],
    );
  }

  /** The sentences of all expert items. */
  get complaints(): readonly string[] {
    return this.all("_ws.expert.message");
  }
}

/** tshark's output, with the dissector loaded, for a capture file's bytes. */
export async function tshark(capture: Uint8Array, args: readonly string[]): Promise<string> {
  using folder = mkdtempDisposableSync(join(tmpdir(), "ringwire-dissector-"));
  const file = join(folder.path, "capture.pcapng");
  writeFileSync(file, capture);
  const argv = ["-r", file, "-X", `lua_script:${DISSECTOR}`, ...args];
  const { stdout, stderr } = await execute("tshark", argv, LIMITS);
  // stderr always warns about running as root, so only errors of Lua scripts count.
  if (/lua/i.test(stderr) || stdout.includes("Lua Error")) throw new Error(`${stderr}${stdout}`);
  return stdout;
}

/** The packets of a capture file, with every field. */
export async function dissect(
  file: Pick<RingFile, "bytes">,
  args: readonly string[] = [],
): Promise<readonly Packet[]> {
  const stdout = await tshark(file.bytes(), ["-T", "json", "--no-duplicate-keys", ...args]);
  const packets = JSON.parse(stdout) as { _source: { layers: Json } }[];
  return packets.map(({ _source }) => new Packet(_source.layers));
}

/** The Info column of every packet. */
export async function infos(
  file: RingFile,
  args: readonly string[] = [],
): Promise<readonly string[]> {
  const stdout = await tshark(file.bytes(), ["-T", "fields", "-e", "_ws.col.Info", ...args]);
  return stdout.split("\n").slice(0, -1);
}
