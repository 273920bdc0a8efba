/**
 * What the C library does with freed memory. Without glibc, or where koffi can't be loaded, nothing
 * changes.
 */
import type * as Sys from "../../shared/reactor/sys.ts";

/** The compilers of V8 are done with the modules of the start by then. */
const AFTER_MS = 2000;
/** The threshold that glibc begins with (mallopt(3)). */
const MMAP_BYTES = 128 << 10;

const use = (run: (sys: typeof Sys) => unknown): void => {
  if (process.platform !== "linux") return;
  void import("../../shared/reactor/sys.ts").then(run).catch(() => {});
};

/**
 * Returns freed memory to the system, a while after the start. The library keeps it otherwise: an
 * idle frontend of 97 MB gives 6 MB back.
 */
export function returnFreedMemory(): void {
  setTimeout(() => use((sys) => sys.trimHeap?.(0)), AFTER_MS).unref();
}

/**
 * Lets large buffers come from the system, where they are zero, and go back there. By itself glibc
 * keeps buffers of a size that was freed once, and clears them at the next use: the 64 MB of windows
 * that a NIC may have stopped the device for 40 ms.
 */
export function mapLargeBuffers(): void {
  use((sys) => sys.mallopt?.(sys.M_MMAP_THRESHOLD, MMAP_BYTES));
}
