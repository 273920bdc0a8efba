/**
 * Counters of the device. They live as long as the NIC. A reset does not clear them, because
 * keep-alive events carry absolute values that replace the driver's own. The status shows them all.
 */
export class EnaCounters {
  txPackets = 0;
  txBytes = 0;
  rxPackets = 0;
  rxBytes = 0;
  /** Number of frames from the driver that were dropped. */
  txDrops = 0;
  /**
   * Number of frames for the driver that were lost for another reason than missing buffers. Frames
   * lost before its interface was up, or because of the link, count for the port only, because
   * drivers report this counter as their own.
   */
  rxDrops = 0;
  /** Number of frames for the driver that found no receive buffer. */
  rxOverruns = 0;
  /** Packet bytes that were not pushed and had to be read from the frontend. */
  txReads = 0;
  aenqEvents = 0;
  aenqOverflows = 0;
  adminCommands = 0;
  resets = 0;
}
