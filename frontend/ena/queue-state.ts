/**
 * The driver's queues as plain values, for whoever begins to look at its link now. The device's
 * word counts as soon as it lies in a ring, handled or not: the wire has carried it.
 */
import { Placement, SqDirection } from "../../shared/ena/admin.ts";
import { DESC_SIZE, RX_CDESC_SIZE, rxCdesc, TX_CDESC_SIZE, txCdesc } from "../../shared/ena/io.ts";
import { PhaseCursor } from "../../shared/ring/phase.ts";
import type {
  EnaCompletionQueue,
  EnaQueueState,
  EnaRequest,
  EnaSubmissionQueue,
} from "../../shared/wire/queue-state.ts";
import type { Adapter } from "./adapter.ts";
import type { IoCq, IoSq } from "./memory.ts";
import { ioVector } from "./notify.ts";
import { RxOwner, type RxRing, type TxRing } from "./rings.ts";

/** Undefined while there is no device, or no admin queue. */
export function queueState({ com, queues }: Adapter): EnaQueueState | undefined {
  const admin = com?.state();
  if (com === undefined || admin === undefined) return undefined;
  const made = queues.flatMap(({ tx, rx }) => {
    // A queue that the device has not created yet has no place for its doorbell.
    const pair = [];
    if (tx.sq.doorbell !== 0) pair.push(transmitQueue(tx));
    if (rx.sq.doorbell !== 0) pair.push(receiveQueue(rx));
    return pair;
  });
  return {
    personality: "ena",
    ...admin,
    llq: com.llq,
    completionQueues: made.map(({ completion }) => completion),
    submissionQueues: made.map(({ submission }) => submission),
  };
}

interface Made {
  readonly completion: EnaCompletionQueue;
  readonly submission: EnaSubmissionQueue;
}

function transmitQueue({ qid, sq, cq, size, stamps }: TxRing): Made {
  const { head, done } = unread(cq, txCdesc);
  const outstanding: EnaRequest[] = [];
  for (let reqId = 0; reqId < size; reqId++) {
    if (stamps[reqId] === 0 || done.has(reqId)) continue;
    outstanding.push({ reqId, address: 0, length: 0 });
  }
  return made(qid, SqDirection.TX, sq, cq, TX_CDESC_SIZE, head, outstanding);
}

function receiveQueue({ qid, sq, cq, size, owner, address, length }: RxRing): Made {
  const { head, done } = unread(cq, rxCdesc);
  const outstanding: EnaRequest[] = [];
  for (let reqId = 0; reqId < size; reqId++) {
    if (owner[reqId] !== RxOwner.DEVICE || done.has(reqId)) continue;
    outstanding.push({ reqId, address: address[reqId]!, length: length[reqId]! });
  }
  return made(qid, SqDirection.RX, sq, cq, RX_CDESC_SIZE, head, outstanding);
}

/** Where the device writes next, and the request ids of what it has written and nobody has handled. */
function unread(
  cq: IoCq,
  cdesc: Pick<typeof txCdesc | typeof rxCdesc, "phase" | "reqId">,
): { head: number; done: ReadonlySet<number> } {
  const cursor = new PhaseCursor(cq.depth, cq.cursor.head);
  cursor.phase = cq.cursor.phase;
  const done = new Set<number>();
  for (let i = 0; i < cq.depth; i++) {
    const at = cursor.slot * cq.entryBytes;
    if (cdesc.phase(cq.view, at) !== cursor.phase) break;
    done.add(cdesc.reqId(cq.view, at));
    cursor.next();
  }
  return { head: cursor.head, done };
}

function made(
  qid: number,
  direction: SqDirection,
  sq: IoSq,
  cq: IoCq,
  entryBytes: number,
  head: number,
  outstanding: readonly EnaRequest[],
): Made {
  const { address, bytes } = cq.memory;
  const inDevice = sq.placement === Placement.DEV;
  return {
    completion: {
      index: cq.idx,
      vector: ioVector(qid),
      ring: { address, depth: cq.depth, entryBytes, head, bytes },
      unmask: cq.unmaskRegister,
      // Never written, so not kept.
      numa: 0,
    },
    submission: {
      direction,
      index: sq.idx,
      cqIndex: cq.idx,
      inDevice,
      ring: {
        address: sq.memory?.address ?? sq.llqDescriptors,
        depth: sq.depth,
        entryBytes: sq.llq?.entryBytes ?? DESC_SIZE,
        head: sq.posted,
      },
      doorbell: sq.doorbell,
      outstanding,
    },
  };
}
