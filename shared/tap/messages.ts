/** Messages between the data-path thread and the TAP worker, in addition to the rings. */
import type { TapErrorCode } from "./errors.ts";

export interface TapLink {
  /** Bytes behind the Ethernet header. */
  readonly mtu: number;
  /** True while administratively up, as by `ip link set up`. */
  readonly up: boolean;
}

export interface OpenOptions {
  readonly name: string;
  /** MAC address of six bytes, or undefined to keep the kernel's choice. */
  readonly mac: Uint8Array | undefined;
  readonly mtu: number | undefined;
  readonly offloads: boolean;
  /** True to bring up an interface that the worker creates. */
  readonly bringUp: boolean;
}

/** The worker's start parameters. */
export interface TapWorkerData extends OpenOptions {
  readonly memory: SharedArrayBuffer;
  readonly slots: number;
}

/** Messages from data path to worker. A wake-up follows each. */
export type TapRequest =
  | { readonly kind: "carrier"; readonly up: boolean }
  | { readonly kind: "mtu"; readonly id: number; readonly mtu: number }
  | { readonly kind: "start"; readonly id: number; readonly mac: Uint8Array };

/** The two frequent messages to the data path, sent as plain numbers. */
export const Wake = { FRAMES: 0, ROOM: 1 } as const;

/** Messages from worker to data path. */
export type TapReport =
  | (typeof Wake)[keyof typeof Wake]
  | Opened
  | ({ readonly kind: "refused" | "gone" } & RefusalText)
  | ({ readonly kind: "link" } & TapLink)
  | { readonly kind: "reply"; readonly id: number; readonly error: RefusalText | undefined }
  | { readonly kind: "warn"; readonly fields: object; readonly message: string };

export interface Opened extends TapLink {
  readonly kind: "opened";
  readonly wakeFd: number;
  readonly existing: boolean;
  readonly mac: Uint8Array;
}

export interface RefusalText {
  readonly code: TapErrorCode;
  readonly message: string;
}
