/**
 * What the device counts. Counters live as long as the NIC: a reset does not clear them, because
 * keep-alive events carry absolute values that replace the driver's own.
 */
export class EnaCounters {
  txPackets = 0;
  txBytes = 0;
  rxPackets = 0;
  rxBytes = 0;
  /** Frames from the driver that did not leave. */
  txDrops = 0;
  /**
   * Frames for the driver that were lost for another reason than missing buffers. What was lost
   * before its interface was up, or because of our link, is the port's loss: drivers report this
   * count as their own.
   */
  rxDrops = 0;
  /** Frames for the driver that found no receive buffer. */
  rxOverruns = 0;
  aenqEvents = 0;
  aenqOverflows = 0;
  adminCommands = 0;
  resets = 0;
  /** Packet bytes that no push had brought and that had to be asked for. */
  txReads = 0;
  readonly #faults = new Map<string, number>();
  readonly #resetReasons = new Map<number, number>();

  fault(code: string): void {
    this.#faults.set(code, (this.#faults.get(code) ?? 0) + 1);
  }

  reset(reason: number): void {
    this.resets++;
    this.#resetReasons.set(reason, (this.#resetReasons.get(reason) ?? 0) + 1);
  }

  get faults(): ReadonlyMap<string, number> {
    return this.#faults;
  }

  /** How often each reason of DEV_CTL was given. */
  get resetReasons(): ReadonlyMap<number, number> {
    return this.#resetReasons;
  }
}
