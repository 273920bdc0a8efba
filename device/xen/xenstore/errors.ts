import type { XsError } from "../../../shared/xen/xenstore.ts";

/** A request that the store refuses. A guest receives the name; the device's own callers also the text. */
export class XenstoreError extends Error {
  readonly code: XsError;
  constructor(code: XsError, why: string) {
    super(`${code}: ${why}`);
    this.name = "XenstoreError";
    this.code = code;
  }
}
