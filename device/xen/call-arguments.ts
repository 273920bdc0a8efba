/** Checks the length of a hypercall's argument structures. */
import { XenErrno } from "../../shared/xen/hypercall.ts";

/** For a call with one structure: 0, or EFAULT when it is cut off, EINVAL when more follows. */
export function wrongLength(view: DataView, size: number): number {
  if (view.byteLength === size) return 0;
  return view.byteLength < size ? XenErrno.EFAULT : XenErrno.EINVAL;
}

/** For a call with any number of structures: 0, or EFAULT when the last one is cut off. */
export function cutOff(view: DataView, size: number): number {
  return view.byteLength % size === 0 ? 0 : XenErrno.EFAULT;
}
