/**
 * The event queue of one device incarnation: notifications that the device sends.
 *
 * After ena_com_aenq_intr_handler (amzn-drivers: kernel/fbsd/ena/ena-com/ena_com.c). The device
 * owns the entries; a write to AENQ_HEAD_DB returns the handled entries. Its first write opens the
 * queue, with all entries free.
 */
import { AENQ_DEPTH, AENQ_ENTRY_SIZE, AenqGroup, aenqCommon } from "../../shared/ena/aenq.ts";
import { queueCapsReg, Register } from "../../shared/ena/registers.ts";
import { PhaseCursor } from "../../shared/ring/phase.ts";
import { EnaRingKind, type LinkState } from "../../shared/wire/link-state.ts";
import type { CoherentMemory } from "../bus/coherent.ts";
import type { DmaSpace } from "../bus/space.ts";
import type { Registers } from "./registers.ts";

/** Called for each event. `at` is its first byte in `view`, which is valid during the call. */
export type AenqHandler = (group: number, syndrome: number, view: DataView, at: number) => void;

export class Aenq {
  readonly #regs: Registers;
  readonly #memory: CoherentMemory;
  readonly #cursor = new PhaseCursor(AENQ_DEPTH);

  constructor(space: DmaSpace, regs: Registers) {
    this.#regs = regs;
    this.#memory = space.allocCoherent(AENQ_DEPTH * AENQ_ENTRY_SIZE, 4096, "event queue");
    regs.writeAddress(Register.AENQ_BASE_LO, Register.AENQ_BASE_HI, this.#memory.address);
    regs.write(Register.AENQ_CAPS, queueCapsReg.pack(AENQ_DEPTH, AENQ_ENTRY_SIZE));
  }

  /** Opens the queue: the device may write to all entries from now on. */
  enable(): void {
    this.#regs.write(Register.AENQ_HEAD_DB, AENQ_DEPTH);
  }

  /** Handles the events, at most one lap, and returns their entries with one doorbell. */
  handle(handler: AenqHandler): void {
    const { view } = this.#memory;
    let handled = 0;
    while (handled < AENQ_DEPTH) {
      const at = this.#cursor.slot * AENQ_ENTRY_SIZE;
      const event = aenqCommon.parse(view, at);
      if (event.phase !== this.#cursor.phase) break;
      handler(event.group, event.syndrome, view, at);
      this.#cursor.next();
      handled++;
    }
    if (handled === 0) return;
    this.#regs.write(Register.AENQ_HEAD_DB, (this.#cursor.head + AENQ_DEPTH) & 0xffff);
  }

  /** ena_com_aenq_has_keep_alive: true when one is unhandled, so only its interrupt was lost. */
  hasKeepAlive(): boolean {
    let found = false;
    this.#unread((group) => {
      if (group === AenqGroup.KEEP_ALIVE) found = true;
    });
    return found;
  }

  /** Reports the ring, with its unhandled events, to a capture that begins now. */
  tellQueue(state: LinkState): void {
    const { address } = this.#memory;
    const place = { address, depth: AENQ_DEPTH, entryBytes: AENQ_ENTRY_SIZE, head: this.#unread() };
    state.enaRing({ ring: EnaRingKind.AENQ, ...place });
  }

  /** Calls `look` with the group of each unhandled event. Returns the device's head. */
  #unread(look: (group: number) => void = () => {}): number {
    const parse = (slot: number) => aenqCommon.parse(this.#memory.view, slot * AENQ_ENTRY_SIZE);
    return this.#cursor.unread(
      (slot) => parse(slot).phase,
      (slot) => look(parse(slot).group),
    );
  }

  free(): void {
    this.#memory.free();
  }
}
