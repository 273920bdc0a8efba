import type { XsError } from "../../../shared/xen/xenstore.ts";

/** A request that the store refuses. A guest is told the name, our own callers also why. */
export class XenstoreError extends Error {
  readonly code: XsError;
  constructor(code: XsError, why: string) {
    super(`${code}: ${why}`);
    this.name = "XenstoreError";
    this.code = code;
  }
}
