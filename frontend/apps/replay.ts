/**
 * replay: sends the Ethernet frames of a capture file through an interface, without netmap.
 *
 *   file ─► packet ─► when it is due ─► an mbuf, or a reason to skip it ─► batch ─► ifnet.transmit
 *             ▲                                                                         │ ENOBUFS
 *             └───────────────── nothing is read on until there is room ◄───────────────┘
 *
 * Every packet that was read is counted once: as sent (Counts.packets), or as skipped, by reason.
 * Sent means that the driver accepted it. Packets that the driver lost later, in a reset for
 * example, are reported beside it.
 */
import { type CapturedPacket, CaptureFormatError } from "../../shared/pcapng/packet.ts";
import type { Ifnet } from "../net/ifnet.ts";
import { type Control, type Counts, clockMs } from "./app.ts";
import { Pacer } from "./pkt-gen/pacer.ts";
import { Account, type ReplayResult } from "./replay/account.ts";
import { Outgoing } from "./replay/outgoing.ts";
import { Selection } from "./replay/selection.ts";
import { BURST, Sender } from "./replay/sender.ts";
import { Timetable } from "./replay/timetable.ts";

/** A capture file, as CaptureFileReader reads it. */
export interface ReplaySource {
  next(): CapturedPacket | undefined;
  more(): Promise<boolean>;
  rewind(): Promise<void>;
  /** At the end: the offset at which a truncated file was cut; undefined for a whole file. */
  readonly cutAt: number | undefined;
}

/** A gap (ms) that is reported when it is kept. A clock that was set looks like a gap of years. */
const TOLD_GAP_MS = 60_000;

export interface ReplayConfig {
  /** How often the file is sent; 0 for no end. */
  readonly loops: number;
  /** Packets a second; 0 for no limit. */
  readonly rate: number;
  /** Keeps the gaps of the file. */
  readonly preserveTiming: boolean;
  readonly sendTruncated: boolean;
  /** Names or numbers of the interfaces whose frames are sent. Empty: all interfaces. */
  readonly interfaces: readonly string[];
}

export interface ReplayHooks {
  /** Called for the first packet of each reason. */
  warn(sentence: string): void;
  /** Milliseconds of a monotonic clock; the process's own when not given. */
  readonly now?: () => number;
}

/** Resolves after all passes, or when the file is damaged, or when stopped. */
export async function replay(
  source: ReplaySource,
  ifnet: Ifnet,
  config: ReplayConfig,
  counts: Counts,
  control: Control,
  { warn, now = clockMs }: ReplayHooks,
): Promise<ReplayResult> {
  const { loops } = config;
  const timetable = config.preserveTiming ? new Timetable(control, now) : undefined;
  const outgoing = new Outgoing(ifnet, config.sendTruncated);
  const selection = new Selection(config.interfaces);
  const account = new Account(ifnet, warn);
  const pacer = new Pacer(config.rate, BURST, control, now);
  const sender = new Sender({ ifnet, counts, account, control, pacer, timetable });
  const { result } = account;

  /** Sends the rest of the file, or until stopped. */
  const pass = async (): Promise<void> => {
    while (!control.isStopped) {
      const packet = source.next();
      if (packet === undefined) {
        await sender.flush();
        if (await source.more()) continue;
        break;
      }
      timetable?.saw(packet.tsNs);
      if (timetable !== undefined && timetable.gapMs >= TOLD_GAP_MS) account.waits(timetable.gapMs);
      while (!sender.isDue && !control.isStopped) await sender.due();
      if (control.isStopped) break;
      const m = selection.skips(packet) ?? outgoing.take(packet);
      if (typeof m === "string") {
        if (!sender.isEmpty) await sender.flush();
        sender.skipped();
        account.skipped(packet, m);
      } else if (sender.add(m) || timetable !== undefined) await sender.flush();
    }
  };

  counts.begin();
  try {
    while (!control.isStopped && (loops === 0 || result.passes < loops)) {
      if (result.passes > 0) await source.rewind();
      timetable?.rewind();
      selection.rewind();
      const before = counts.packets;
      await pass();
      if (control.isStopped) break;
      if (source.cutAt !== undefined) {
        result.broken = `the file is cut off within what begins at byte ${source.cutAt}`;
        break;
      }
      result.passes++;
      // Repeating a file without frames would never end.
      if (loops === 0 && counts.packets === before) break;
    }
  } catch (error) {
    // A damaged or unreadable file is a result. Any other error is a fault of this program.
    if (!(error instanceof CaptureFormatError || isSystemError(error))) throw error;
    result.broken = error.message;
  } finally {
    await sender.leave(outgoing);
    counts.end();
  }
  account.close(outgoing.inUse, selection);
  return result;
}

const isSystemError = (error: unknown): error is Error =>
  error instanceof Error && "syscall" in error;
