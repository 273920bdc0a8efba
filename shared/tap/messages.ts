/** Messages between the data-path thread and the TAP worker, in addition to the rings. */
import type { TapErrorCode } from "./errors.ts";

/** The worker's start parameters. */
export interface TapWorkerData {
  readonly memory: SharedArrayBuffer;
  readonly slots: number;
  readonly name: string;
  /** MAC address of six bytes, or undefined to keep the kernel's choice. */
  readonly mac: Uint8Array | undefined;
  readonly mtu: number | undefined;
  readonly offloads: boolean;
  /** True to bring up an interface that the worker creates. */
  readonly bringUp: boolean;
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
  | {
      readonly kind: "opened";
      readonly wakeFd: number;
      readonly existing: boolean;
      readonly mac: Uint8Array;
      readonly mtu: number;
      readonly up: boolean;
    }
  | { readonly kind: "refused"; readonly code: TapErrorCode; readonly message: string }
  | { readonly kind: "link"; readonly mtu: number; readonly up: boolean }
  | { readonly kind: "reply"; readonly id: number; readonly error: RefusalText | undefined }
  | { readonly kind: "warn"; readonly fields: object; readonly message: string }
  | { readonly kind: "gone"; readonly code: TapErrorCode; readonly message: string };

export interface RefusalText {
  readonly code: TapErrorCode;
  readonly message: string;
}
