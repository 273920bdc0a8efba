/**
 * Doorbells and interrupts, by which driver and device notify each other.
 *
 *   transmit, txsync   staged descriptors ──► published, one doorbell for each ring
 *   vector 0      admin completions, events
 *   vector 1 + q  completions of queue pair q; masked from the interrupt until it is unmasked
 *
 * The link sends the posted changes at the end of the turn, so the batches of a turn share a
 * message.
 */
import { intrReg } from "../../shared/ena/io.ts";
import type { QueueId } from "../../shared/net/frame.ts";
import type { Adapter } from "./adapter.ts";
import { REGISTER_BAR } from "./registers.ts";
import type { QueuePair, TxRing } from "./rings.ts";

/**
 * Moderation delays in the device's unit, which is a microsecond. The original writes 20 and 50, and
 * none until its first cleanup. There an interrupt costs something. Here a message does, so
 * transmit completions may wait for one that leaves anyway. The timer of a shorter delay would wake
 * a busy device for nothing. Frames never wait.
 */
const RX_IRQ_INTERVAL = 0;
const TX_IRQ_INTERVAL = 30_000;

export const MANAGEMENT_VECTOR = 0;
/** ENA_IO_IRQ_IDX */
export const ioVector = (qid: QueueId): number => qid + 1;

/** ena_ring_tx_doorbell */
export function txDoorbell(ring: TxRing): void {
  ring.sq.ring();
  ring.stats.doorbells++;
}

/** Rings the doorbell of each Tx ring with entries that are not announced yet. */
export function kick(queues: readonly QueuePair[]): void {
  for (let i = 0; i < queues.length; i++) {
    const { tx } = queues[i]!;
    if (tx.sq.isDoorbellDue) txDoorbell(tx);
  }
}

/** Unmasks the vector of a queue pair, by its tx completion queue. */
export function unmask(adapter: Adapter, { tx }: QueuePair): void {
  tx.stats.unmask_interrupt_num++;
  const value = intrReg.pack(RX_IRQ_INTERVAL, TX_IRQ_INTERVAL, 1);
  adapter.ctx.pci.write32(REGISTER_BAR, tx.cq.unmaskRegister, value);
}

/** ena_unmask_all_io_irqs, at up. */
export function unmaskAll(adapter: Adapter): void {
  for (const pair of adapter.queues) unmask(adapter, pair);
}
