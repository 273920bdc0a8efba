/** State records in a form that tests can compare. */

import { viewOf } from "../../shared/bytes/words.ts";
import {
  EnaRingKind,
  LinkState,
  STATE_RECORDS,
  type StateKind,
  stateEntries,
  XenRingKind,
} from "../../shared/wire/link-state.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import { RingWord } from "../../shared/xen/ring.ts";

/** The parts of the record that `fill` writes. */
export function stateParts(fill: (state: LinkState) => void): Uint8Array[] {
  const parts: Uint8Array[] = [];
  const state = new LinkState((part) => parts.push(Uint8Array.from(part)));
  fill(state);
  state.flush();
  return parts;
}

/** The records of one kind, each with its fields and its tail. */
export function stateRecords(parts: readonly Uint8Array[], kind: StateKind) {
  return parts
    .flatMap((part) => [...stateEntries(part)])
    .flatMap((entry) => (entry?.kind === kind ? entry.records : []))
    .map((record) => {
      const { fields } = STATE_RECORDS.get(kind)!;
      const values = fields.parse(viewOf(record), 0) as StateFields;
      return { values, tail: record.subarray(fields.size) };
    });
}

type StateFields = Readonly<Record<string, number | boolean>>;

/** A record with every kind of entry, for tests that change its bytes. */
export function sampleState(): Uint8Array[] {
  return stateParts((state) => {
    state.window(0x10000, new Uint8Array(64).fill(1));
    state.grant(1, grantRef(9), 1, 0, 0x12, 0, 0);
    state.grant(2, grantRef(10), 1, 0, 0x13, 0, 0);
    state.grantUse(grantRef(9), 1, 0);
    state.llq(128, 2);
    for (const ring of [EnaRingKind.AQ, EnaRingKind.ACQ, EnaRingKind.AENQ]) {
      state.enaRing({ ring, address: 0x1000 * (1 + ring), depth: 32, entryBytes: 64, head: 40 });
    }
    state.adminCommand(new Uint8Array(64).fill(1));
    const queue = { address: 0x20000, depth: 8, entryBytes: 16, head: 9, register: 0x1004 };
    state.enaRing({ ...queue, ring: EnaRingKind.CQ, address: 0x10000 });
    for (const ring of [EnaRingKind.TX_SQ, EnaRingKind.RX_SQ]) {
      state.submissionQueue({ ...queue, ring }, [{ reqId: 3, address: 0x3000 }]);
    }
    for (const ring of Object.values(XenRingKind)) {
      const page = new Uint8Array(4096).fill(1);
      // Six requests have no response.
      viewOf(page).setUint32(RingWord.REQ_PROD, 0x0101_0107, true);
      state.xenRing({ ring, queue: 0, port: 8, reference: 9, address: 0x30000, page });
    }
  });
}
