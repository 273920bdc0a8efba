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

/** Moderation delays after each cleanup, as in the original. Unit: the device's resolution. */
const RX_IRQ_INTERVAL = 20;
const TX_IRQ_INTERVAL = 50;

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
  for (const { tx } of queues) if (tx.sq.isDoorbellDue) txDoorbell(tx);
}

/** Unmasks the vector of a queue pair, by its tx completion queue, with the usual intervals. */
export function unmask(adapter: Adapter, pair: QueuePair): void {
  pair.tx.stats.unmask_interrupt_num++;
  const value = intrReg.pack(RX_IRQ_INTERVAL, TX_IRQ_INTERVAL, 1);
  adapter.ctx.pci.write32(REGISTER_BAR, pair.tx.cq.unmaskRegister, value);
}

/** ena_unmask_all_io_irqs: at up, without delays. */
export function unmaskAll(adapter: Adapter): void {
  for (const { tx } of adapter.queues) {
    tx.stats.unmask_interrupt_num++;
    adapter.ctx.pci.write32(REGISTER_BAR, tx.cq.unmaskRegister, intrReg.pack(0, 0, 1));
  }
}
