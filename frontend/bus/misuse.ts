/** What a driver did wrong with bus_dma(9). Bugs of ours, so they throw at once. */
import { Errno } from "./errno.ts";

/** Stable names; the sentence beside them may change. */
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
  | "SYNC_RANGE"
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

/** No misuse: the 32 bits of bus space, or the windows one link may have, are all taken. */
export class BusSpaceExhausted extends Error {
  readonly errno = Errno.ENOMEM;
  constructor(message: string) {
    super(message);
    this.name = "BusSpaceExhausted";
  }
}
