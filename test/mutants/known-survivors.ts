/**
 * Edits of the sample that no test notices, by function and line, with the reason. An equivalent
 * edit changes nothing observable. The others are listed so that a later reader can decide about
 * them.
 */
import type { Site } from "./sites.ts";

export interface KnownSurvivor {
  readonly file: string;
  readonly inFunction: string;
  /** The line, trimmed: a function can hold the same text twice. */
  readonly line: string;
  /** The text that the edit replaces, and its replacement. */
  readonly was: string;
  readonly becomes: string;
  /** True when nothing observable changes: such an edit is not counted at all. */
  readonly equivalent: boolean;
  readonly reason: string;
}

export const knownSurvivors: readonly KnownSurvivor[] = [
  {
    file: "shared/ring/phase.ts",
    inFunction: "constructor",
    line: "if (!isPowerOfTwo(depth) || depth > 0x1_0000) {",
    was: "0x1_0000",
    becomes: "65537",
    equivalent: true,
    reason: "Only powers of two come here, and 65537 has the same ones below it.",
  },
  {
    file: "device/xen/netback/rx.ts",
    inFunction: "close",
    line: 'if (this.#fifo.length > 0) this.#vif.port.drop(DropReason.PORT_DOWN, "out", this.#fifo.length);',
    was: "this.#fifo.length > 0",
    becomes: "true",
    equivalent: true,
    reason: "With an empty queue, a drop of 0 frames adds 0 to the port's counters.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "rxPkt",
    line: "let at = 0;",
    was: "0",
    becomes: "1",
    equivalent: true,
    reason: "The loop sets it before its first use.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "rxPkt",
    line: "let status = 0;",
    was: "0",
    becomes: "1",
    equivalent: true,
    reason: "The loop sets it before its first use.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "rxPkt",
    line: "bytes += length;",
    was: "+=",
    becomes: "-=",
    equivalent: true,
    reason: "The sum is compared with 0 only, and no length is negative.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "takeBuffers",
    line: "if (id >= ring.size || ring.owner[id] !== RxOwner.DEVICE) error = RxError.BAD_REQ_ID;",
    was: ">=",
    becomes: ">",
    equivalent: true,
    reason: "Beyond the ring no buffer is the device's, which is the same error.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "takeBuffers",
    line: "if (error !== 0) {",
    was: "error !== 0",
    becomes: "true",
    equivalent: true,
    reason: "Each buffer that was taken gets another owner before anybody looks at it.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "takeBuffers",
    line: "if (error !== 0) {",
    was: "0",
    becomes: "1",
    equivalent: true,
    reason: "Each buffer that was taken gets another owner before anybody looks at it.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "takeBuffers",
    line: "while (taken > 0) ring.owner[ring.pktReqIds[--taken]!] = RxOwner.DEVICE;",
    was: ">",
    becomes: ">=",
    equivalent: true,
    reason: "One step more has no id, so it changes no owner.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "rxCleanup",
    line: "return false;",
    was: "false",
    becomes: "true",
    equivalent: true,
    reason: "A reset is due then, so no further round runs.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "rxCleanup",
    line: "return budget <= 0;",
    was: "0",
    becomes: "1",
    equivalent: true,
    reason: "A round that finds no packet changes nothing.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "takeMbuf",
    line: `if (m === undefined) throw new Error(\`ena: rx id \${id} was taken without a buffer\`);`,
    was: "m === undefined",
    becomes: "false",
    equivalent: true,
    reason: "The condition holds for no state that the driver can reach.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "takeMbuf",
    line: "map.sync(SyncOp.POSTREAD);",
    was: "map.sync(SyncOp.POSTREAD);",
    becomes: ";",
    equivalent: true,
    reason: "A sync after a device's write moves no bytes here.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "allocRxMbuf",
    line: "map.sync(SyncOp.PREREAD);",
    was: "map.sync(SyncOp.PREREAD);",
    becomes: ";",
    equivalent: true,
    reason: "A sync before a device's write moves no bytes here.",
  },
  {
    file: "frontend/ena/datapath-tx.ts",
    inFunction: "txUnload",
    line: "map.sync(SyncOp.POSTWRITE);",
    was: "map.sync(SyncOp.POSTWRITE);",
    becomes: ";",
    equivalent: true,
    reason: "A sync after a device's read moves no bytes here.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "refillRxBufs",
    line: `if (ring.owner[id] === RxOwner.DEVICE) throw new Error(\`ena: rx id \${id} is posted and free\`);`,
    was: "ring.owner[id] === RxOwner.DEVICE",
    becomes: "false",
    equivalent: true,
    reason: "The condition holds for no state that the driver can reach.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "refillRxBufs",
    line: "if (ring.owner[id] === RxOwner.NONE) {",
    was: "ring.owner[id] === RxOwner.NONE",
    becomes: "true",
    equivalent: true,
    reason: "A buffer that is prepared is posted at once, so none is found prepared.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "refillRxBufs",
    line: "ring.owner[id] = RxOwner.READY;",
    was: "ring.owner[id] = RxOwner.READY;",
    becomes: ";",
    equivalent: true,
    reason: "A buffer that is prepared is posted at once, so none is found prepared.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "freeRxBufs",
    line: "ring.mbufs[id] = undefined;",
    was: "ring.mbufs[id] = undefined;",
    becomes: ";",
    equivalent: true,
    reason: "Nobody uses the ring any more.",
  },
  {
    file: "frontend/ena/datapath-rx.ts",
    inFunction: "freeRxBufs",
    line: "ring.owner[id] = RxOwner.NONE;",
    was: "ring.owner[id] = RxOwner.NONE;",
    becomes: ";",
    equivalent: true,
    reason: "Nobody uses the ring any more.",
  },
  {
    file: "frontend/ena/datapath.ts",
    inFunction: "scheduleCleanup",
    line: "if (adapter.generation === generation && adapter.queues.includes(pair)) cleanup(adapter, pair);",
    was: "adapter.generation === generation && adapter.queues.includes(pair)",
    becomes: "true",
    equivalent: true,
    reason: "A pair of before is cleaned up by a driver that is down, which does nothing.",
  },
  {
    file: "frontend/ena/datapath.ts",
    inFunction: "scheduleCleanup",
    line: "if (adapter.generation === generation && adapter.queues.includes(pair)) cleanup(adapter, pair);",
    was: "&&",
    becomes: "||",
    equivalent: true,
    reason: "A pair of before is cleaned up by a driver that is down, which does nothing.",
  },
  {
    file: "frontend/ena/datapath-tx.ts",
    inFunction: "prepareTx",
    line: "const offload = ctx.metaValid ? ctx.offload : 0;",
    was: "ctx.metaValid",
    becomes: "true",
    equivalent: true,
    reason: "Without valid facts the offload bits are 0 anyway.",
  },
  {
    file: "frontend/ena/datapath-tx.ts",
    inFunction: "prepareTx",
    line: "sq.descDone();",
    was: "sq.descDone();",
    becomes: ";",
    equivalent: true,
    reason: "The descriptor is the packet's only one, and packetDone writes its entry.",
  },
  {
    file: "frontend/ena/datapath-tx.ts",
    inFunction: "txCsum",
    line: "if (words < 5 || words > MAX_L4_WORDS || l4 + words * 4 >= m.pktLength) return false;",
    was: ">",
    becomes: ">=",
    equivalent: true,
    reason: "Four bits hold at most 15, which is below the limit.",
  },
  {
    file: "frontend/ena/datapath-tx.ts",
    inFunction: "txCompReqId",
    line: "return -2;",
    was: "2",
    becomes: "3",
    equivalent: true,
    reason: "Callers ask only whether the number is negative, and -1.",
  },
  {
    file: "frontend/ena/memory.ts",
    inFunction: "constructor",
    line: "this.#bounce = undefined;",
    was: "this.#bounce = undefined;",
    becomes: ";",
    equivalent: true,
    reason: "A field without a value is undefined.",
  },
  {
    file: "frontend/xen/memory.ts",
    inFunction: "publish",
    line: "if (run < count) {",
    was: "run < count",
    becomes: "true",
    equivalent: true,
    reason: "A range of 0 bytes sends nothing.",
  },
  {
    file: "frontend/xen/memory.ts",
    inFunction: "publish",
    line: "if (run < count) {",
    was: "<",
    becomes: "<=",
    equivalent: true,
    reason: "A range of 0 bytes sends nothing.",
  },
  {
    file: "frontend/bus/coherent.ts",
    inFunction: "publish",
    line: "if (length === 0) return;",
    was: "length === 0",
    becomes: "false",
    equivalent: true,
    reason: "The writer sends nothing for 0 bytes.",
  },
  {
    file: "frontend/ena/memory.ts",
    inFunction: "ring",
    line: "if (first > 0) memory.publish(slot * DESC_SIZE, first * DESC_SIZE, this.#recordType);",
    was: "first > 0",
    becomes: "true",
    equivalent: true,
    reason: "A range of 0 bytes sends nothing.",
  },
  {
    file: "frontend/ena/memory.ts",
    inFunction: "ring",
    line: "if (first > 0) memory.publish(slot * DESC_SIZE, first * DESC_SIZE, this.#recordType);",
    was: ">",
    becomes: ">=",
    equivalent: true,
    reason: "A range of 0 bytes sends nothing.",
  },
  {
    file: "frontend/ena/memory.ts",
    inFunction: "ring",
    line: "if (count > first) memory.publish(0, (count - first) * DESC_SIZE, this.#recordType);",
    was: "count > first",
    becomes: "true",
    equivalent: true,
    reason: "A range of 0 bytes sends nothing.",
  },
  {
    file: "frontend/ena/memory.ts",
    inFunction: "ring",
    line: "if (count > first) memory.publish(0, (count - first) * DESC_SIZE, this.#recordType);",
    was: ">",
    becomes: ">=",
    equivalent: true,
    reason: "A range of 0 bytes sends nothing.",
  },
];

/** An edit as the sample draws it. */
interface Drawn {
  readonly file: string;
  readonly site: Site;
  readonly lineText: string;
  readonly was: string;
}

/** The entry of an edit; undefined when the list has none. */
export function knownSurvivor({ file, site, lineText, was }: Drawn): KnownSurvivor | undefined {
  return knownSurvivors.find(
    (known) =>
      known.file === file &&
      known.inFunction === site.inFunction &&
      known.line === lineText &&
      known.was === was &&
      known.becomes === site.text,
  );
}
