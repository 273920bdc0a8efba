/**
 * The dissector against bytes that no honest peer sends: columns of records with any type, length
 * and content, real batches with a few bytes changed, and noise. The dissector reports the defect
 * and never fails itself: no Lua error, and no error that only its last handler catches.
 */
import { describe, expect, test } from "vitest";
import { Op } from "../../shared/wire/catalogue.ts";
import { StateKind } from "../../shared/wire/link-state.ts";
import { SOAK } from "../support/counts.ts";
import { type BatchFacts, RingFile, tshark } from "../support/dissector.ts";
import { sampleState } from "../support/link-state.ts";
import { runNicSession } from "../support/nic-session.ts";
import { Random, seedOfRun } from "../support/random.ts";
import { column, type Piece, packBatch } from "../support/raw-frontend.ts";

/** Total records; a batch has a few dozen. */
const RECORDS = SOAK ? 1_000_000 : 25_000;
/** Records in one run of tshark, so that its memory stays small. */
const RECORDS_PER_FILE = SOAK ? 50_000 : 7000;

const COLUMNS = [Op.WRITE, Op.PUSH, Op.MMIO_WRITE];
const TYPES = [0, 1, 2, 3, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 32, 33, 34, 35, 36, 37, 38, 39];
/** Lengths of whole entries, of entries cut short, and of no entry at all. */
const LENGTHS = [1, 2, 4, 6, 7, 8, 12, 16, 20, 24, 48, 63, 64, 65, 128, 129, 192, 256, 300];
/** Few pages, so that steps hit the same rings, queues and grants again. */
/** Kinds of state records and an unknown kind, and lengths of records. */
const STATE_KINDS = [...Object.values(StateKind), 99];
const RECORD_BYTES = [1, 4, 8, 12, 20, 32, 64, 24 + 4096];
const PAGES = [0, 1, 2, 0x10, 0x20, 0x30];

class Fuzzer {
  readonly #random: Random;
  readonly #honest: readonly Uint8Array[];
  readonly #states: readonly Uint8Array[];
  records = 0;

  constructor(seed: number, honest: readonly Uint8Array[], states: readonly Uint8Array[]) {
    this.#random = new Random(seed);
    this.#honest = honest;
    this.#states = states;
  }

  #bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    // Mostly zeroes and small numbers, which pass more checks than noise.
    const density = this.#random.pick([1, 4, 16]);
    for (let i = 0; i < length; i++) {
      if (this.#random.below(density) === 0)
        bytes[i] = this.#random.below(this.#random.pick([4, 32, 256]));
    }
    return bytes;
  }

  #piece(): Piece {
    const type =
      this.#random.below(20) === 0 ? this.#random.below(65536) : this.#random.pick(TYPES);
    const bytes = this.#bytes(this.#random.pick(LENGTHS));
    const inPage = this.#random.pick([0, 0, 4, 64, 76, 0x1000 - 8, 0x54, 0x5c]);
    const address = this.#random.pick(PAGES) * 4096 + inPage;
    const lie = this.#random.below(50) === 0 ? { length: this.#random.below(400) } : {};
    return { type, bytes, address, space: this.#random.pick([0, 0, 1, 2, 65535]), ...lie };
  }

  #columns(): Uint8Array {
    const transactions = Array.from({ length: 1 + this.#random.below(4) }, () => {
      const pieces = Array.from({ length: 1 + this.#random.below(24) }, () => this.#piece());
      this.records += pieces.length;
      return column(this.#random.pick(COLUMNS), pieces);
    });
    return packBatch(transactions);
  }

  /** Any transactions of the catalogue, with fields that may be invalid. */
  #transactions(): Uint8Array {
    const field = (): unknown => {
      const kind = this.#random.below(8);
      if (kind < 3) return this.#random.pick([0, 1, 2, 4, 20, 29, 32, 255, 65536, 2 ** 40]);
      if (kind < 6) return this.#bytes(this.#random.pick(LENGTHS));
      if (kind === 6) return this.#bytes(8).toString("latin1");
      return this.#random.pick<unknown>([null, true, -1, 1.5, [1, [2]], { a: 1 }]);
    };
    const count = 1 + this.#random.below(20);
    this.records += count;
    return packBatch(
      Array.from({ length: count }, () => [
        this.#random.below(40),
        ...Array.from({ length: this.#random.below(6) }, field),
      ]),
    );
  }

  #mutated(honest: readonly Uint8Array[]): Uint8Array {
    const bytes = Buffer.from(this.#random.pick(honest));
    this.records++;
    for (let i = this.#random.below(8); i >= 0; i--) {
      bytes[this.#random.below(bytes.length)] = this.#random.below(256);
    }
    return this.#random.below(4) === 0
      ? bytes.subarray(0, 1 + this.#random.below(bytes.length))
      : bytes;
  }

  batch(): Uint8Array {
    const kind = this.#random.below(16);
    if (kind < 8) return this.#columns();
    if (kind < 12) return this.#transactions();
    if (kind < 15) return this.#mutated(this.#honest);
    this.records++;
    return this.#bytes(1 + this.#random.below(200));
  }

  /** A part of a state record: random entries, or a real record with a few bytes changed. */
  state(): Uint8Array {
    if (this.#random.below(2) === 0) return this.#mutated(this.#states);
    const entries = Array.from({ length: 1 + this.#random.below(24) }, () => {
      const record = this.#random.pick(RECORD_BYTES);
      const bytes = this.#bytes(8 + record * this.#random.below(6));
      bytes.writeUInt32LE(this.#random.pick(STATE_KINDS), 0);
      bytes.writeUInt32LE(bytes.length - 8 + (this.#random.below(40) === 0 ? 1 : 0), 4);
      return bytes;
    });
    this.records += entries.length;
    return Buffer.concat(entries);
  }

  /** Direction, connection, and sometimes an old snapshot, a cut or a gap. */
  facts(length: number): BatchFacts & { readonly toDevice: boolean } {
    return {
      toDevice: this.#random.below(2) === 0,
      epoch: this.#random.below(3),
      oldSnapshot: this.#random.below(10) === 0,
      ...(this.#random.below(40) === 0 ? { snap: this.#random.below(length) } : {}),
      ...(this.#random.below(200) === 0 ? { drops: 1 } : {}),
    };
  }
}

describe("bytes that nobody should send", () => {
  test(`fault-N5 ${RECORDS} records and transactions without a failure of the dissector`, async () => {
    const seed = seedOfRun();
    const sessions = [
      await runNicSession({ personality: "ena", llq: true, frames: [60, 400] }),
      await runNicSession({ personality: "xen", frames: [60, 400] }),
    ];
    const honest = sessions
      .flatMap(({ batches }) => batches.map(({ bytes }) => bytes))
      .filter(({ length }) => length < 5000);
    const fuzzer = new Fuzzer(seed, honest, sampleState());
    let passes = 0;
    while (fuzzer.records < RECORDS) {
      const file = new RingFile();
      // The queues of a real session come first, so that the dissector has state.
      const { batches } = sessions[passes % sessions.length]!;
      for (const { direction, bytes } of batches.slice(0, -20)) {
        if (direction === "in") file.toDevice(bytes);
        else file.toFrontend(bytes);
      }
      const end = Math.min(fuzzer.records + RECORDS_PER_FILE, RECORDS);
      while (fuzzer.records < end) {
        const isState = fuzzer.records % 16 === 0;
        const batch = isState ? fuzzer.state() : fuzzer.batch();
        const { toDevice, ...facts } = fuzzer.facts(batch.length);
        if (isState) file.state(batch, facts);
        else if (toDevice) file.toDevice(batch, facts);
        else file.toFrontend(batch, facts);
      }
      const stdout = await tshark(file.bytes(), [
        // Half of the files are dissected in two passes, so that links to answers are tested too.
        ...((passes++ & 2) === 0 ? ["-2"] : []),
        ...["-Y", "ringwire.expert.internal || _ws.lua.error || !ringwire"],
        ...["-T", "fields", "-e", "frame.number", "-e", "_ws.expert.message"],
      ]);
      expect(stdout, `seed ${seed}`).toBe("");
    }
    expect(fuzzer.records).toBeGreaterThanOrEqual(RECORDS);
  });
});
