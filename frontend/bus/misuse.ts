/**
 * Errors for a driver that breaks the rules of bus_dma(9). They are bugs, so they throw at once.
 */
import { Errno } from "./errno.ts";

/** Stable names. The sentence of an error may change. */
export type MisuseCode =
  | "TAG_PARAMS"
  | "TAG_DESTROYED"
  | "TAG_IN_USE"
  | "MAP_DESTROYED"
  | "MAP_LOADED"
  | "MAP_NOT_LOADED"
  | "LOAD_RANGE"
  | "SEGMENT_INDEX"
  | "SYNC_OP"
  | "SYNC_DIRECTION"
  | "COHERENT_PARAMS"
  | "COHERENT_FREED"
  | "PUBLISH_RANGE"
  | "REGISTER_PARAMS";

export class DmaMisuse extends Error {
  readonly code: MisuseCode;
  constructor(code: MisuseCode, message: string) {
    super(message);
    this.name = "DmaMisuse";
    this.code = code;
  }
}

/** All of the 32-bit bus space, or all windows of a link, are in use. Not a misuse. */
export class BusSpaceExhausted extends Error {
  readonly errno = Errno.ENOMEM;
  constructor(message: string) {
    super(message);
    this.name = "BusSpaceExhausted";
  }
}
