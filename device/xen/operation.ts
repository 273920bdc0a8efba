/** The operations of a hypercall: their argument structures, and how they are answered. */
import type { Struct } from "../../shared/bytes/struct.ts";
import { XenErrno } from "../../shared/xen/hypercall.ts";

/** One operation for a caller of type C. */
export interface Operation<C> {
  readonly size: number;
  /** Handles the structure at `at` and writes its OUT fields. Returns 0 or an errno of either sign. */
  run(caller: C, view: DataView, at: number): number;
}
export type Operations<C> = Readonly<Record<number, Operation<C>>>;

/** An operation that receives the fields of its structure, and returns the OUT fields or an errno. */
export function operation<C, T>(
  layout: Struct<T>,
  call: (caller: C, given: T) => Partial<T> | number,
): Operation<C> {
  return {
    size: layout.size,
    run(caller, view, at) {
      const result = call(caller, layout.parse(view, at));
      if (typeof result === "number") return result;
      layout.patch(view, at, result);
      return 0;
    },
  };
}

/** Runs an operation on its one structure. Returns a positive errno or 0. */
export function runSingle<C>(op: Operation<C>, caller: C, view: DataView): number {
  if (view.byteLength < op.size) return XenErrno.EFAULT;
  if (view.byteLength > op.size) return XenErrno.EINVAL;
  return Math.abs(op.run(caller, view, 0));
}

/** Runs an operation on any number of structures, each with its own status. Returns an errno or 0. */
export function runBatch<C>(op: Operation<C>, caller: C, view: DataView): number {
  if (view.byteLength % op.size !== 0) return XenErrno.EFAULT;
  for (let at = 0; at < view.byteLength; at += op.size) op.run(caller, view, at);
  return 0;
}
