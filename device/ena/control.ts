/**
 * The admin queue: commands in, completions out, in any order.
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_com.c, ena_com_submit_admin_cmd and
 * ena_com_handle_admin_completion.
 *
 * Commands are executed in the order of the ring. A command that needs bytes from the driver's
 * memory waits for them, and later commands overtake it. A reset abandons waiting commands.
 */

import { nameOf } from "../../shared/bytes/names.ts";
import { zero } from "../../shared/bytes/struct.ts";
import {
  ACQ_ENTRY_SIZE,
  AdminStatus,
  AQ_ENTRY_SIZE,
  acqCommon,
  aqCommon,
  createCq,
  createSq,
  destroyCq,
  destroySq,
  Opcode,
} from "../../shared/ena/admin.ts";
import { featureCommand } from "../../shared/ena/features.ts";
import { getStats } from "../../shared/ena/stats.ts";
import { type BusAddress, RecordType } from "../../shared/wire/records.ts";
import { TurnCredit } from "../turn-credit.ts";
import { AdminRefusal, type EnaContext } from "./context.ts";
import type { Features, Pending } from "./features.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { CompletionRing, DescriptorRing } from "./memory.ts";
import type { Vectors } from "./notify.ts";
import type { Queues } from "./queues.ts";

/** Commands of one batch. Drivers wait for each command, and rarely have more than one. */
const COMMANDS_A_BATCH = 256;

export class AdminQueue {
  readonly #context: EnaContext;
  readonly #lifecycle: Lifecycle;
  readonly #features: Features;
  readonly #queues: Queues;
  readonly #vectors: Vectors;
  /** Undefined while the queue does not run. */
  rings: { readonly commands: DescriptorRing; readonly completions: CompletionRing } | undefined;
  /** Commands that wait for bytes, each as its whole ring entry, by command id. */
  readonly waiting = new Map<number, DataView>();
  readonly #work = new TurnCredit(COMMANDS_A_BATCH, () => this.#run());

  constructor(
    context: EnaContext,
    lifecycle: Lifecycle,
    features: Features,
    queues: Queues,
    vectors: Vectors,
  ) {
    this.#context = context;
    this.#lifecycle = lifecycle;
    this.#features = features;
    this.#queues = queues;
    this.#vectors = vectors;
  }

  /** Starts the queue with checked addresses and depths. The completion ring is not less deep. */
  start(address: BusAddress, depth: number, acqAddress: BusAddress, acqDepth: number): void {
    const { memory } = this.#context.host;
    this.rings = {
      commands: new DescriptorRing(
        memory,
        address,
        depth,
        AQ_ENTRY_SIZE,
        () => this.#run(),
        () =>
          this.#lifecycle.fail("AQ_RING_REFUSED", "the frontend refused a read of the admin ring"),
      ),
      completions: new CompletionRing(
        memory,
        acqAddress,
        acqDepth,
        ACQ_ENTRY_SIZE,
        RecordType.ENA_ACQ,
      ),
    };
  }

  /** Handles AQ_DB, the running tail, of a started queue. */
  doorbell(value: number): void {
    const ring = this.rings?.commands;
    const error = ring?.announce(value);
    if (ring !== undefined && error !== undefined) {
      this.#lifecycle.fail(
        `AQ_DOORBELL_${error}`,
        `AQ_DB ${value}: head ${ring.cursor.head}, depth ${ring.depth}`,
      );
    }
    this.#run();
  }

  batchEnd(): void {
    this.#work.refill();
  }

  reset(): void {
    // Commands that waited for the next turn are gone with their ring.
    this.rings?.commands.close();
    this.rings = undefined;
    this.waiting.clear();
  }

  #run(): void {
    const ring = this.rings?.commands;
    if (ring === undefined) return;
    while (ring.readable > 0 && !this.#lifecycle.fatal) {
      if (!this.#work.take()) return;
      // The driver may reuse the entry as soon as it is consumed, so this works on a copy.
      const view = new DataView(new ArrayBuffer(AQ_ENTRY_SIZE));
      const at = ring.at(0);
      for (let i = 0; i < AQ_ENTRY_SIZE; i++) view.setUint8(i, ring.view.getUint8(at + i));
      const { commandId, opcode, phase } = aqCommon.parse(view, 0);
      if (phase !== ring.cursor.phase) {
        this.#lifecycle.fail(
          "AQ_WRONG_PHASE",
          `admin entry ${ring.cursor.head} was announced but carries the old phase`,
        );
        return;
      }
      ring.cursor.next();
      this.#start(commandId, opcode, view);
    }
  }

  #start(commandId: number, opcode: number, view: DataView): void {
    this.#context.counters.adminCommands++;
    const response = new DataView(new ArrayBuffer(ACQ_ENTRY_SIZE));
    let pending: Pending;
    try {
      if (this.waiting.has(commandId)) {
        throw new AdminRefusal(
          "AQ_COMMAND_ID_IN_USE",
          `command id ${commandId} is not completed yet`,
        );
      }
      pending = this.#execute(opcode, view, response);
    } catch (error) {
      this.#refuse(commandId, error, response);
      return;
    }
    if (pending === undefined) {
      this.#complete(commandId, AdminStatus.SUCCESS, response);
      return;
    }
    this.waiting.set(commandId, view);
    // A reset abandons the command.
    const { generation } = this.#context;
    const settle = (complete: () => void): void => {
      if (this.#context.generation !== generation) return;
      this.waiting.delete(commandId);
      complete();
    };
    void pending.then(
      () => settle(() => this.#complete(commandId, AdminStatus.SUCCESS, response)),
      (error: unknown) => settle(() => this.#refuse(commandId, error, response)),
    );
  }

  /** Reports a refusal and completes its command. */
  #refuse(commandId: number, error: unknown, response: DataView): void {
    if (!(error instanceof AdminRefusal)) throw error;
    this.#context.note(error.code, error.message);
    this.#complete(commandId, error.status, response);
  }

  #execute(opcode: number, view: DataView, response: DataView): Pending {
    switch (opcode) {
      case Opcode.CREATE_CQ:
        this.#queues.createCq(createCq.parse(view, 0), response);
        return;
      case Opcode.CREATE_SQ:
        this.#queues.createSq(createSq.parse(view, 0), response);
        return;
      case Opcode.DESTROY_SQ:
        this.#queues.destroySq(destroySq.parse(view, 0));
        return;
      case Opcode.DESTROY_CQ:
        this.#queues.destroyCq(destroyCq.parse(view, 0));
        return;
      case Opcode.GET_FEATURE:
        this.#features.get(featureCommand.parse(view, 0), response);
        return;
      case Opcode.SET_FEATURE:
        return this.#features.set(featureCommand.parse(view, 0), view);
      case Opcode.GET_STATS:
        this.#features.stats(getStats.parse(view, 0), response);
        return;
      default:
        throw new AdminRefusal(
          "AQ_OPCODE_UNSUPPORTED",
          `admin opcode ${nameOf(Opcode, opcode)}`,
          AdminStatus.UNSUPPORTED_OPCODE,
        );
    }
  }

  #complete(commandId: number, status: AdminStatus, response: DataView): void {
    if (this.rings === undefined) return;
    const { commands, completions: ring } = this.rings;
    // The completion of a refused command has no body, so bytes written before the refusal go.
    if (status !== AdminStatus.SUCCESS) zero(response, 0, ACQ_ENTRY_SIZE);
    const sqHeadIndx = commands.cursor.head;
    const { phase } = ring.cursor;
    acqCommon.write(response, 0, { commandId, status, phase, sqHeadIndx });
    ring.bytes.set(new Uint8Array(response.buffer), ring.at);
    ring.next();
    ring.publish();
    this.#vectors.postManagement();
    this.#context.host.scheduleFlush();
  }
}
