/** The function's queues as plain values, for whoever begins to look at its link now. */
import { SqDirection } from "../../shared/ena/admin.ts";
import type {
  EnaQueueState,
  EnaRing,
  EnaSubmissionQueue,
  EnaWrittenRing,
} from "../../shared/wire/queue-state.ts";
import type { EventQueue } from "./aenq.ts";
import type { AdminQueue } from "./control.ts";
import type { Datapath } from "./datapath.ts";
import type { LlqConfig } from "./features.ts";
import type { CompletionRing, DescriptorRing } from "./memory.ts";
import { LLQ_BYTES } from "./queues.ts";
import { DOORBELLS, NUMAS, UNMASKS } from "./registers.ts";
import type { TxQueue } from "./tx.ts";

/** Undefined while no admin queue runs: then there is no other queue either. */
export function queueState(
  admin: AdminQueue,
  events: EventQueue,
  llq: LlqConfig,
  datapath: Datapath,
): EnaQueueState | undefined {
  const { commands, completions, waiting } = admin;
  if (commands === undefined || completions === undefined || events.ring === undefined) return;
  return {
    personality: "ena",
    commands: announced(commands),
    completions: written(completions),
    events: written(events.ring),
    waiting: waiting.map(({ buffer }) => new Uint8Array(buffer)),
    llq: llq.enabled
      ? { entryBytes: llq.entryBytes, descsBeforeHeader: llq.descsBeforeHeader }
      : undefined,
    completionQueues: datapath.cqs.flatMap((cq) => {
      if (cq === undefined) return [];
      const { index, vector } = cq;
      const [unmask, numa] = [UNMASKS + index * 4, NUMAS + index * 4];
      return [{ index, vector, ring: written(cq.ring), unmask, numa }];
    }),
    submissionQueues: [
      ...datapath.tx.flatMap((queue) => (queue === undefined ? [] : [transmitQueue(queue)])),
      ...datapath.rx.flatMap((queue) => {
        if (queue === undefined) return [];
        const { index, cq, ring } = queue;
        const outstanding = queue.outstanding();
        return [
          {
            ...place(index, cq.index),
            direction: SqDirection.RX,
            inDevice: false,
            ring: announced(ring),
            outstanding,
          },
        ];
      }),
    ],
  };
}

function transmitQueue(queue: TxQueue): EnaSubmissionQueue {
  const { index, cq, llq, ring } = queue;
  const inDevice = llq !== undefined;
  return {
    ...place(index, cq.index),
    direction: SqDirection.TX,
    inDevice,
    ring: inDevice ? { ...announced(ring), address: index * LLQ_BYTES } : announced(ring),
    outstanding: queue.outstanding().map((reqId) => ({ reqId, address: 0, length: 0 })),
  };
}

const place = (index: number, cqIndex: number) => ({
  index,
  cqIndex,
  doorbell: DOORBELLS + index * 4,
});

const announced = ({ address, depth, entryBytes, tail }: DescriptorRing): EnaRing => ({
  address,
  depth,
  entryBytes,
  head: tail,
});

const written = ({
  address,
  depth,
  entryBytes,
  cursor,
  bytes,
}: CompletionRing): EnaWrittenRing => ({
  address,
  depth,
  entryBytes,
  head: cursor.head,
  bytes,
});
