/**
 * The admin queue of one device incarnation: 32 commands, each with a context until its
 * completion comes. After ena_com.c (amzn-drivers: kernel/fbsd/ena/ena-com).
 *
 *   ours          AQ   32 x 64   the driver writes, publishes, writes the running tail to AQ_DB
 *   theirs        ACQ  32 x 64   the device writes; the phase bit marks new entries
 *
 * Completions may come in any order. A completion without a waiting context (late or duplicate) is
 * ignored. A completion with an impossible id stops the queue.
 */

import {
  ACQ_ENTRY_SIZE,
  ADMIN_QUEUE_DEPTH,
  AdminStatus,
  AQ_ENTRY_SIZE,
  acqCommon,
  stampCommand,
} from "../../shared/ena/admin.ts";
import { queueCapsReg, Register } from "../../shared/ena/registers.ts";
import type { Logger } from "../../shared/log.ts";
import { PhaseCursor } from "../../shared/ring/phase.ts";
import { EnaRingKind, type LinkState } from "../../shared/wire/link-state.ts";
import { RecordType } from "../../shared/wire/records.ts";
import type { CoherentMemory } from "../bus/coherent.ts";
import { Errno } from "../bus/errno.ts";
import type { DmaSpace } from "../bus/space.ts";
import { Abandoned } from "../driver-error.ts";
import type { AdminStats } from "./counters.ts";
import { DeviceError } from "./device-error.ts";
import type { Registers } from "./registers.ts";
import type { Waits } from "./waits.ts";

interface Context {
  occupied: boolean;
  completed: boolean;
  status: number;
  readonly view: DataView;
}

export class AdminQueue {
  readonly #regs: Registers;
  readonly #log: Logger;
  readonly #waits: Waits;
  readonly #aq: CoherentMemory;
  readonly #acq: CoherentMemory;
  readonly #sq = new PhaseCursor(ADMIN_QUEUE_DEPTH);
  readonly #cq = new PhaseCursor(ADMIN_QUEUE_DEPTH);
  readonly #contexts: Context[] = [];
  #commandId = 0;
  #outstanding = 0;
  /** True until interrupts are set up: completions are polled after each applied batch. */
  polling = true;
  /** False after a timeout or an invalid completion, until a reset. */
  running = true;
  missingInterrupt = false;
  timeoutMs: number;
  readonly stats: AdminStats;

  constructor(space: DmaSpace, regs: Registers, log: Logger, waits: Waits, stats: AdminStats) {
    this.#regs = regs;
    this.#log = log;
    this.#waits = waits;
    this.stats = stats;
    this.timeoutMs = regs.adminTimeoutMs;
    const depth = ADMIN_QUEUE_DEPTH;
    this.#aq = space.allocCoherent(depth * AQ_ENTRY_SIZE, 4096, "admin queue");
    this.#acq = space.allocCoherent(depth * ACQ_ENTRY_SIZE, 4096, "admin completions");
    for (let i = 0; i < depth; i++) {
      const view = new DataView(new ArrayBuffer(ACQ_ENTRY_SIZE));
      this.#contexts.push({ occupied: false, completed: false, status: 0, view });
    }
    regs.writeAddress(Register.AQ_BASE_LO, Register.AQ_BASE_HI, this.#aq.address);
    regs.writeAddress(Register.ACQ_BASE_LO, Register.ACQ_BASE_HI, this.#acq.address);
    regs.write(Register.AQ_CAPS, queueCapsReg.pack(depth, AQ_ENTRY_SIZE));
    regs.write(Register.ACQ_CAPS, queueCapsReg.pack(depth, ACQ_ENTRY_SIZE));
  }

  /**
   * Posts the command that `write` writes (with its opcode; this method adds id and phase) and
   * waits for its completion, whose 64 bytes it returns. Rejects with DeviceError, or with Abandoned
   * when the device is lost.
   */
  async execute(write: (view: DataView, at: number) => void): Promise<DataView> {
    this.#waits.check();
    if (!this.running) throw new DeviceError(Errno.ENODEV);
    if (this.#outstanding >= ADMIN_QUEUE_DEPTH) {
      this.stats.out_of_space++;
      throw new DeviceError(Errno.ENOSPC);
    }
    const id = this.#commandId;
    const context = this.#contexts[id]!;
    if (context.occupied) throw new DeviceError(Errno.EINVAL);
    context.occupied = true;
    context.completed = false;
    this.#outstanding++;
    this.#commandId = (id + 1) & (ADMIN_QUEUE_DEPTH - 1);

    const at = this.#sq.slot * AQ_ENTRY_SIZE;
    this.#aq.bytes.fill(0, at, at + AQ_ENTRY_SIZE);
    write(this.#aq.view, at);
    stampCommand(this.#aq.view, at, id, this.#sq.phase);
    this.#sq.next();
    this.#aq.publish(at, AQ_ENTRY_SIZE, RecordType.ENA_AQ);
    this.#regs.write(Register.AQ_DB, this.#sq.head);
    this.stats.sumbitted_cmd++;

    try {
      return await this.#completion(context);
    } catch (error) {
      if (error instanceof Abandoned) this.stats.aborted_cmd++;
      throw error;
    } finally {
      context.occupied = false;
      this.#outstanding--;
    }
  }

  async #completion(context: Context): Promise<DataView> {
    const seen = (): boolean => {
      if (this.polling) this.handleCompletions();
      return context.completed;
    };
    if (!(await this.#waits.until(seen, this.timeoutMs))) {
      this.stats.no_completion++;
      // The completion may be there with only its interrupt lost. That reset has its own reason.
      this.handleCompletions();
      if (context.completed) this.missingInterrupt = true;
      this.running = false;
      const what = context.completed ? "came without an interrupt" : "did not come";
      this.#log.error({ timeoutMs: this.timeoutMs }, `admin completion ${what}`);
      throw new DeviceError(Errno.ETIMEDOUT);
    }
    const { status, view } = context;
    if (status === AdminStatus.SUCCESS) return view;
    const errno = STATUS_ERRNO[status] ?? Errno.EINVAL;
    this.#log.debug({ status, errno }, "admin command failed");
    throw new DeviceError(errno);
  }

  /** ena_com_handle_admin_completion: called at the management interrupt, or when polling. */
  handleCompletions(): void {
    const { view, bytes } = this.#acq;
    for (let i = 0; i < ADMIN_QUEUE_DEPTH; i++) {
      const at = this.#cq.slot * ACQ_ENTRY_SIZE;
      const head = acqCommon.parse(view, at);
      if (head.phase !== this.#cq.phase) return;
      this.#cq.next();
      this.stats.completed_cmd++;
      const context = this.#contexts[head.commandId];
      if (context === undefined) {
        if (this.running) {
          this.#log.error({ commandId: head.commandId }, "admin completion for an impossible id");
        }
        this.running = false;
        continue;
      }
      if (!context.occupied || context.completed) continue;
      new Uint8Array(context.view.buffer).set(bytes.subarray(at, at + ACQ_ENTRY_SIZE));
      context.status = head.status;
      context.completed = true;
    }
  }

  /** Reports both rings and the unanswered commands to a capture that begins now. */
  tellQueues(state: LinkState): void {
    const answered = new Set<number>();
    const parse = (slot: number) => acqCommon.parse(this.#acq.view, slot * ACQ_ENTRY_SIZE);
    const head = this.#cq.unread(
      (slot) => parse(slot).phase,
      (slot) => answered.add(parse(slot).commandId),
    );
    const depth = ADMIN_QUEUE_DEPTH;
    const aq = { address: this.#aq.address, entryBytes: AQ_ENTRY_SIZE, head: this.#sq.head };
    const acq = { address: this.#acq.address, entryBytes: ACQ_ENTRY_SIZE, head };
    state.enaRing({ ring: EnaRingKind.AQ, depth, ...aq });
    state.enaRing({ ring: EnaRingKind.ACQ, depth, ...acq });
    // Ids and entries are allocated together, so a command's entry has the number of its id.
    for (const [id, { occupied, completed }] of this.#contexts.entries()) {
      if (!occupied || completed || answered.has(id)) continue;
      state.adminCommand(this.#aq.bytes.subarray(id * AQ_ENTRY_SIZE, (id + 1) * AQ_ENTRY_SIZE));
    }
  }

  free(): void {
    this.running = false;
    this.#aq.free();
    this.#acq.free();
  }
}

/** ena_com_comp_status_to_errno; any other status is EINVAL. */
const STATUS_ERRNO: Readonly<Record<number, Errno>> = {
  [AdminStatus.RESOURCE_ALLOCATION_FAILURE]: Errno.ENOMEM,
  [AdminStatus.UNSUPPORTED_OPCODE]: Errno.EOPNOTSUPP,
  [AdminStatus.RESOURCE_BUSY]: Errno.EBUSY,
};
