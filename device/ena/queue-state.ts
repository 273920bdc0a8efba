/** Describes the function's queues to a capture that begins now. */
import { EnaRingKind, type EnaRingState, type LinkState } from "../../shared/wire/link-state.ts";
import type { EventQueue } from "./aenq.ts";
import { DOORBELLS, NUMAS, UNMASKS } from "./context.ts";
import type { AdminQueue } from "./control.ts";
import type { Datapath } from "./datapath.ts";
import type { LlqConfig } from "./features.ts";
import type { CompletionRing, DescriptorRing } from "./memory.ts";
import { LLQ_BYTES } from "./queues.ts";

/** Writes the queues into `state`. Without an admin queue there is no other queue either. */
export function tellQueues(
  state: LinkState,
  admin: AdminQueue,
  events: EventQueue,
  llq: LlqConfig,
  { cqs, tx, rx }: Datapath,
): void {
  const { commands, completions, waiting } = admin;
  if (commands === undefined || completions === undefined || events.ring === undefined) return;
  state.enaRing({ ring: EnaRingKind.AQ, ...announced(commands) });
  state.enaRing({ ring: EnaRingKind.ACQ, ...written(completions) });
  state.enaRing({ ring: EnaRingKind.AENQ, ...written(events.ring) });
  for (const { buffer } of waiting) state.adminCommand(new Uint8Array(buffer));
  if (llq.enabled) state.llq(llq.entryBytes, llq.descsBeforeHeader);
  for (const cq of cqs) {
    if (cq === undefined) continue;
    const { index, vector, ring } = cq;
    const [register, numaRegister] = [UNMASKS + index * 4, NUMAS + index * 4];
    const facts = { index, vector, register, numaRegister };
    state.enaRing({ ring: EnaRingKind.CQ, ...facts, ...written(ring) });
  }
  for (const queue of tx) {
    if (queue === undefined) continue;
    const { index, cq, ring } = queue;
    const inDevice = queue.llq !== undefined;
    const place = { ...announced(ring), ...(inDevice ? { address: index * LLQ_BYTES } : {}) };
    const facts = { index, cqIndex: cq.index, inDevice, register: DOORBELLS + index * 4 };
    const requests = queue.outstanding().map((reqId) => ({ reqId, address: 0 }));
    state.submissionQueue({ ring: EnaRingKind.TX_SQ, ...facts, ...place }, requests);
  }
  for (const queue of rx) {
    if (queue === undefined) continue;
    const { index, cq, ring } = queue;
    const facts = { index, cqIndex: cq.index, register: DOORBELLS + index * 4 };
    const place = { ring: EnaRingKind.RX_SQ, ...facts, ...announced(ring) };
    state.submissionQueue(place, queue.outstanding());
  }
}

type RingPlace = Pick<EnaRingState, "address" | "depth" | "entryBytes" | "head">;

const announced = ({ address, depth, entryBytes, tail }: DescriptorRing): RingPlace => ({
  address,
  depth,
  entryBytes,
  head: tail,
});

const written = ({ address, depth, entryBytes, cursor }: CompletionRing): RingPlace => ({
  address,
  depth,
  entryBytes,
  head: cursor.head,
});
