/** What the data-path thread and the TAP worker say to each other beside the rings. */
import type { TapErrorCode } from "./errors.ts";

/** Handed to the worker as it starts. */
export interface TapWorkerData {
  readonly memory: SharedArrayBuffer;
  readonly slots: number;
  readonly name: string;
  /** Six bytes, or undefined to keep what the kernel chose. */
  readonly mac: Uint8Array | undefined;
  readonly mtu: number | undefined;
  readonly offloads: boolean;
  /** Brings an interface that is created here up at once. */
  readonly bringUp: boolean;
}

/** Data path to worker. Each is followed by a wake-up. */
export type TapRequest =
  | { readonly kind: "carrier"; readonly up: boolean }
  | { readonly kind: "mtu"; readonly id: number; readonly mtu: number }
  | { readonly kind: "start"; readonly id: number; readonly mac: Uint8Array };

/** The two that repeat travel as bare numbers. */
export const Wake = { FRAMES: 0, ROOM: 1 } as const;

/** Worker to data path. */
export type TapReport =
  | (typeof Wake)[keyof typeof Wake]
  | {
      readonly kind: "opened";
      readonly wakeFd: number;
      readonly existing: boolean;
      readonly mac: Uint8Array;
      readonly mtu: number;
      readonly up: boolean;
      readonly offloads: boolean;
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
