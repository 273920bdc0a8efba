/**
 * pkt-gen: fills a port's transmit rings, or empties its receive rings, as fast as they go or at
 * a rate. After netmap's program of that name.
 *
 *   tx, txseq     wait for room ─► fill slots from head on ─► head, cur forward ─► next poll sends
 *   rx, rxseq     wait for frames ─► look at slots [head, tail) ─► head, cur to tail
 *   ping          one frame at a time, with a time stamp ─► its echo gives the round trip
 *   pong          swap the buffer into a transmit slot, swap its addresses
 *
 * One call of `pktGen` is one loop over the rings of one port. It runs where the port was opened,
 * or in a worker (app-worker.ts). The loops are in the folder pkt-gen.
 */
import type { AppPort, Control, Counts } from "./app.ts";
import type { DelayReport } from "./pkt-gen/histogram.ts";
import type { FrameOptions } from "./pkt-gen/packet.ts";
import { ping } from "./pkt-gen/ping.ts";
import { pong } from "./pkt-gen/pong.ts";
import { receive } from "./pkt-gen/receive.ts";
import { receiveNumbered } from "./pkt-gen/rxseq.ts";
import { send } from "./pkt-gen/send.ts";
import type { SequenceReport } from "./pkt-gen/sequence.ts";

export type PktGenMode = "tx" | "rx" | "ping" | "pong" | "txseq" | "rxseq";

/** Can be passed to a worker. */
export interface PktGenConfig extends FrameOptions {
  readonly mode: PktGenMode;
  /** Packets, or round trips; 0 for no end. */
  readonly count: number;
  /** Packets that one turn of the loop moves on a ring. */
  readonly burst: number;
  /** Packets a second; 0 for no limit. */
  readonly rate: number;
  /** Slots of a packet. */
  readonly frags: number;
  /** Bytes of a slot that is not its packet's last; 0: an equal share. */
  readonly fragBytes: number;
  /** Frames of a capture file, sent in place of generated ones. */
  readonly captured: readonly Uint8Array[];
  /** Sends the buffers without writing them. */
  readonly rubbish: boolean;
  /** Shows each packet on stderr. */
  readonly dump: boolean;
  /** A receiver ends after a second without packets, once it has received one. */
  readonly endWhenIdle: boolean;
}

export interface PktGenResult {
  readonly sequence?: SequenceReport;
  readonly delays?: DelayReport;
  /** Pings without an answer. */
  readonly unanswered?: number;
}

export async function pktGen(
  port: AppPort,
  config: PktGenConfig,
  counts: Counts,
  control: Control,
): Promise<PktGenResult> {
  switch (config.mode) {
    case "tx":
    case "txseq":
      await send(port, config, counts, control);
      return {};
    case "rx":
      await receive(port, config, counts, control);
      return {};
    case "rxseq":
      return { sequence: await receiveNumbered(port, config, counts, control) };
    case "ping":
      return await ping(port, config, counts, control);
    case "pong":
      await pong(port, config, counts, control);
      return {};
  }
}
