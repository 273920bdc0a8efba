/**
 * Reports the driver's queues to a capture that begins now. A completion counts as soon as it is in
 * a ring, handled or not, because the wire has carried it already.
 */
import { Placement } from "../../shared/ena/admin.ts";
import { DESC_SIZE, rxCdesc, txCdesc } from "../../shared/ena/io.ts";
import { type EnaRequest, EnaRingKind, type LinkState } from "../../shared/wire/link-state.ts";
import type { Adapter } from "./adapter.ts";
import type { IoCq, IoSq } from "./memory.ts";
import { ioVector } from "./notify.ts";
import { RxOwner } from "./rings.ts";

/** Reports all queues. Reports nothing while there is no device or no admin queue. */
export function tellQueues(state: LinkState, { com, queues }: Adapter): void {
  if (com?.admin === undefined || com.aenq === undefined) return;
  com.admin.tellQueues(state);
  com.aenq.tellQueue(state);
  if (com.llq !== undefined) state.llq(com.llq.entryBytes, com.llq.descsBeforeHeader);
  for (const { tx, rx } of queues) {
    tellPair(state, tx.qid, EnaRingKind.TX_SQ, tx.sq, tx.cq, txCdesc, (done) =>
      requestsOf(tx.size, (reqId) => tx.stamps[reqId] !== 0 && !done.has(reqId)),
    );
    tellPair(state, rx.qid, EnaRingKind.RX_SQ, rx.sq, rx.cq, rxCdesc, (done) =>
      requestsOf(
        rx.size,
        (reqId) => rx.owner[reqId] === RxOwner.DEVICE && !done.has(reqId),
        rx.address,
      ),
    );
  }
}

/** Returns the outstanding request ids below `size`, with the buffer addresses if there are any. */
function requestsOf(
  size: number,
  isOutstanding: (reqId: number) => boolean,
  addresses?: ArrayLike<number>,
): EnaRequest[] {
  const requests: EnaRequest[] = [];
  for (let reqId = 0; reqId < size; reqId++) {
    if (isOutstanding(reqId)) requests.push({ reqId, address: addresses?.[reqId] ?? 0 });
  }
  return requests;
}

/** Reports one CQ and its SQ. `requests` receives the ids with an unhandled completion. */
function tellPair(
  state: LinkState,
  qid: number,
  ring: number,
  sq: IoSq,
  cq: IoCq,
  cdesc: Pick<typeof txCdesc | typeof rxCdesc, "phase" | "reqId">,
  requests: (done: ReadonlySet<number>) => readonly EnaRequest[],
): void {
  // A queue that the device has not created yet has no doorbell register.
  if (sq.doorbell === 0) return;
  const done = new Set<number>();
  const head = cq.cursor.unread(
    (slot) => cdesc.phase(cq.view, slot * cq.entryBytes),
    (slot) => done.add(cdesc.reqId(cq.view, slot * cq.entryBytes)),
  );
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
    ring,
    index: sq.idx,
    cqIndex: cq.idx,
    inDevice: sq.placement === Placement.DEV,
    register: sq.doorbell,
    address: sq.memory?.address ?? sq.llqDescriptors,
    depth: sq.depth,
    entryBytes: sq.llq?.entryBytes ?? DESC_SIZE,
    head: sq.posted,
  };
  state.submissionQueue(queue, requests(done));
}
