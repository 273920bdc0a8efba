/**
 * The reset handshake and DEV_STS. Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_com.c,
 * ena_com_dev_reset. This file does what that function waits for.
 *
 *   READY --DEV_CTL=reset--> RESET_IN_PROGRESS --DEV_CTL=0--> READY
 *     '--broken rule--> READY|FATAL_ERROR --DEV_CTL=reset--> ...
 *
 * RESET_IN_PROGRESS stays until the driver writes 0, because the driver waits until it has seen it.
 */

import { DevCtl, DevSts, devCtlReg, ResetReason } from "../../shared/ena/registers.ts";
import type { Logger } from "../../shared/log.ts";
import { FaultSeverity } from "../../shared/wire/protocol.ts";
import { TurnCredit } from "../turn-credit.ts";
import type { EnaContext } from "./context.ts";

/** Names of the reset reasons, by number. */
const REASONS: readonly string[] = Object.entries(ResetReason).reduce<string[]>(
  (names, [name, reason]) => Object.assign(names, { [reason]: name }),
  [],
);
/** Resets that are done in one batch. A driver waits for each of them. */
const RESETS_A_BATCH = 64;

export class Lifecycle {
  readonly #context: EnaContext;
  /** Drops every queue and all configuration. */
  readonly #dropAll: () => void;
  readonly #lines: Logger;
  readonly #finished: Logger;
  readonly #credit = new TurnCredit(RESETS_A_BATCH, () => this.#doDeferred());
  /** DEV_CTL of a reset that waits for the next turn. */
  #deferred: number | undefined;
  #closed = false;
  #isFirst = true;
  resetting = false;
  /** True after a device fault. Admin and event queues stop until a reset. */
  fatal = false;
  lastReason = "none";
  /** Number of resets, by the name of the reason in DEV_CTL. */
  readonly resets = new Map<string, number>();

  constructor(context: EnaContext, dropAll: () => void) {
    this.#context = context;
    this.#dropAll = dropAll;
    this.#lines = context.lines.of("reset");
    this.#finished = context.lines.of("reset finished");
  }

  get status(): number {
    if (this.resetting) return DevSts.RESET_IN_PROGRESS;
    return DevSts.READY | (this.fatal ? DevSts.FATAL_ERROR : 0);
  }

  /** True if the device is neither in reset nor broken. */
  get ready(): boolean {
    return !this.resetting && !this.fatal;
  }

  batchEnd(): void {
    this.#credit.refill();
  }

  /** Ends the function. Its queues stop as after a device fault, and no reset follows. */
  close(): void {
    this.#closed = true;
    this.fatal = true;
  }

  /** Handles a fault after which the device needs a reset. */
  fail(code: string, text: string): void {
    this.fatal = true;
    this.#context.fault(FaultSeverity.DEVICE, code, text);
  }

  devCtl(value: number): void {
    if ((value & DevCtl.DEV_RESET) !== 0) {
      if (this.#credit.take()) this.#reset(devCtlReg.reason(value));
      else {
        // The reset is done in the next turn. Until then the device is in reset, and deaf.
        this.#deferred = value;
        this.resetting = true;
      }
      return;
    }
    if (this.#deferred !== undefined) return;
    if (value !== 0) {
      this.#context.note(
        "DEV_CTL_UNSUPPORTED",
        `DEV_CTL 0x${value.toString(16)}: only reset is done`,
      );
      return;
    }
    if (!this.resetting) return;
    this.resetting = false;
    this.#finished.debug({}, "ena: reset finished");
  }

  #doDeferred(): void {
    const value = this.#deferred;
    this.#deferred = undefined;
    if (value !== undefined && !this.#closed) this.devCtl(value);
  }

  #reset(reason: number): void {
    this.#context.generation++;
    this.#context.counters.resets++;
    this.lastReason = REASONS[reason] ?? `?${reason}`;
    this.resets.set(this.lastReason, (this.resets.get(this.lastReason) ?? 0) + 1);
    this.resetting = true;
    this.fatal = false;
    const fields = { reason: this.lastReason };
    // Every driver begins with a reset, so only later resets are logged.
    if (this.#isFirst) this.#context.lines.of("first reset").debug(fields, "ena: reset");
    else this.#lines.info(fields, "ena: reset");
    this.#isFirst = false;
    this.#dropAll();
  }
}
