/** The interface of the kernel's TAP device for its users. README.md has a drawing. */
import type { Logger } from "../log.ts";
import type { Frame } from "../net/frame.ts";
import { checkPlatform, checkTapName, type TapError } from "./errors.ts";
import type { KernelTap } from "./kernel-tap.ts";
import type { OpenOptions, TapLink } from "./open.ts";

export interface TapOptions extends Omit<OpenOptions, "bringUp"> {
  /** Name of at most 15 bytes. Attaches to the persistent TAP of that name, or creates a TAP. */
  readonly name: string;
  /** Name of the network namespace of the TAP, as `ip netns` has it. Default: that of the process. */
  readonly netns?: string | undefined;
  /** False leaves a created interface down until `start`. Default true. */
  readonly bringUp?: boolean | undefined;
  /** Number of frames that the TAP's user may hold at once. */
  readonly slots?: number | undefined;
  readonly log: Logger;
}

/** Frames and bytes since the TAP was opened; bytes without the vnet header. */
export interface TapCounters {
  readonly rxFrames: number;
  readonly rxBytes: number;
  /** Frames read that contradict their own vnet header. */
  readonly rxMalformed: number;
  /** Frames read that are longer than a slot. Not in rxFrames. */
  readonly rxTruncated: number;
  /** Number of times that all receive slots were in use and frames waited in the kernel's queue. */
  readonly rxStalls: number;
  readonly txFrames: number;
  readonly txBytes: number;
  /** Frames that the kernel refused, by errno name. */
  readonly txErrors: { readonly [errno: string]: number };
}

/** The interface of a TAP for its users. test/support has an implementation in memory. */
export interface TapEnd {
  readonly name: string;
  /** The kernel's present value. */
  readonly mtu: number;
  readonly up: boolean;
  /** Number of receive slots; tokens are below this. */
  readonly slots: number;
  /** Frames dropped in `receive` because they contradict their vnet header. */
  readonly rxMalformed: number;
  /**
   * Called when frames wait, once after each -1 of `receive`. An owner that sets it calls `receive`
   * until that returns -1, at once and again at each call.
   */
  onFrames: (() => void) | undefined;
  /** Called when there is room again after `send` or `hasRoom` returned false. */
  onDrain: (() => void) | undefined;
  /** Called when `ip link` changed the MTU or brought the interface up or down. */
  onLinkChange: ((link: TapLink) => void) | undefined;
  /** Called when the interface was deleted. Only `close` may follow. */
  onGone: ((error: TapError) => void) | undefined;
  /**
   * Receives the next frame. Overwrites `frame` with one span in the slot that the returned token
   * names. The bytes stay until `release(token)`. Returns -1 when no frame waits; `onFrames` is then
   * called for the next frame.
   */
  receive(frame: Frame): number;
  /** Milliseconds since the frame in this slot was read from the kernel. */
  age(token: number): number;
  /** Gives a slot back. Slots may come back in any order. */
  release(token: number): void;
  /** Returns false when the kernel accepts no frame now. `onDrain` is called when it does again. */
  hasRoom(): boolean;
  /** Passes a frame to the kernel. Returns false when the kernel accepts none now. */
  send(frame: Frame): boolean;
  /** Sets the carrier (`ip link`: NO-CARRIER when false). It is off after `openTap`. */
  setCarrier(up: boolean): void;
  /** Sets the kernel's MTU. Rejects with TapError without permission, or if the kernel refuses. */
  setMtu(mtu: number): Promise<void>;
  /** Closes the TAP. The interface vanishes, unless persistent. */
  close(): Promise<void>;
}

/** Opens a TAP. Rejects with TapError. */
export async function openTap(options: TapOptions): Promise<KernelTap> {
  checkPlatform();
  checkTapName(options.name);
  // Imported only here, so that a process without a TAP loads no code that makes system calls.
  const { KernelTap } = await import("./kernel-tap.ts");
  return KernelTap.open(options);
}
