/**
 * Reports the driver's queues to a capture that begins now. A completion counts as soon as it is in
 * a ring, handled or not, because the wire has carried it already.
 */
import { Placement } from "../../shared/ena/admin.ts";
import { DESC_SIZE, rxCdesc, txCdesc } from "../../shared/ena/io.ts";
import { type EnaRequest, EnaRingKind, type LinkState } from "../../shared/wire/link-state.ts";
import type { Adapter } from "./adapter.ts";
import { ioVector } from "./notify.ts";
import { RxOwner, type RxRing, type TxRing } from "./rings.ts";

/** Reports all queues. Reports nothing while there is no device or no admin queue. */
export function tellQueues(state: LinkState, { com, queues }: Adapter): void {
  if (com?.admin === undefined || com.aenq === undefined) return;
  com.admin.tellQueues(state);
  com.aenq.tellQueue(state);
  if (com.llq !== undefined) state.llq(com.llq.entryBytes, com.llq.descsBeforeHeader);
  for (const { tx, rx } of queues) {
    tellRing(state, EnaRingKind.TX_SQ, tx, txCdesc, (reqId) => tx.stamps[reqId] !== 0);
    const isPosted = (reqId: number) => rx.owner[reqId] === RxOwner.DEVICE;
    tellRing(state, EnaRingKind.RX_SQ, rx, rxCdesc, isPosted, rx.address);
  }
}

/** Reports one CQ and its SQ. `addresses` are those of the buffers, if they belong to ids. */
function tellRing(
  state: LinkState,
  kind: number,
  { qid, size, sq, cq }: TxRing | RxRing,
  cdesc: Pick<typeof txCdesc | typeof rxCdesc, "phase" | "reqId">,
  isPosted: (reqId: number) => boolean,
  addresses?: ArrayLike<number>,
): void {
  // A queue that the device has not created yet has no doorbell register.
  if (sq.doorbell === 0) return;
  const done = new Set<number>();
  const head = cq.cursor.unread(
    (slot) => cdesc.phase(cq.view, slot * cq.entryBytes),
    (slot) => done.add(cdesc.reqId(cq.view, slot * cq.entryBytes)),
  );
  const requests: EnaRequest[] = [];
  for (let reqId = 0; reqId < size; reqId++) {
    if (!isPosted(reqId) || done.has(reqId)) continue;
    requests.push({ reqId, address: addresses?.[reqId] ?? 0 });
  }
  state.enaRing({
    ring: EnaRingKind.CQ,
    index: cq.idx,
    vector: ioVector(qid),
    register: cq.unmaskRegister,
    address: cq.memory.address,
    depth: cq.depth,
    entryBytes: cq.entryBytes,
    head,
  });
  const queue = {
    ring: kind,
    index: sq.idx,
    cqIndex: cq.idx,
    inDevice: sq.placement === Placement.DEV,
    register: sq.doorbell,
    address: sq.memory?.address ?? sq.llqDescriptors,
    depth: sq.depth,
    entryBytes: sq.llq?.entryBytes ?? DESC_SIZE,
    head: sq.posted,
  };
  state.submissionQueue(queue, requests);
}
