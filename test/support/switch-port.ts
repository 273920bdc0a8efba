/** A switch port that records frames and returns what the test sets. */
import type { DropReason, Port, PortOffloads } from "../../device/switch/port.ts";
import type { Frame } from "../../shared/net/frame.ts";
import { bytesOf, type FrameFacts, factsOf } from "./packets.ts";

export const NO_OFFLOADS: PortOffloads = { csum: false, tso4: false, tso6: false };
export const ALL_OFFLOADS: PortOffloads = { csum: true, tso4: true, tso6: true };

export class TestPort implements Port {
  readonly name: string;
  readonly kind = "test";
  readonly offloads: PortOffloads;
  readonly maxFrameBytes: number;
  readonly got: (FrameFacts & { readonly bytes: Uint8Array })[] = [];
  /** The arguments of each call of `ready`: [length, frames]. */
  readonly asked: [number, number][] = [];
  flushes = 0;
  /** The result of `deliver`. */
  answer: DropReason | undefined;
  room = true;
  onDeliver: (() => void) | undefined;
  onFlush: ((now: boolean) => void) | undefined;

  constructor(name: string, offloads: PortOffloads = ALL_OFFLOADS, maxFrameBytes = 1514) {
    this.name = name;
    this.offloads = offloads;
    this.maxFrameBytes = maxFrameBytes;
  }

  deliver(frame: Frame): DropReason | undefined {
    this.onDeliver?.();
    if (this.answer !== undefined) return this.answer;
    this.got.push({ bytes: bytesOf(frame), ...factsOf(frame) });
    return undefined;
  }

  ready(length: number, frames: number): boolean {
    this.asked.push([length, frames]);
    return this.room;
  }

  flush(now = false): void {
    this.flushes++;
    this.onFlush?.(now);
  }
}
