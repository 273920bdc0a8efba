/**
 * Memory that the start of a command has freed. The C library keeps it for the next allocation; an
 * idle frontend of 97 MB gives 6 MB back.
 */

/** The compilers of V8 are done with the modules of the start by then. */
const AFTER_MS = 2000;

/** Returns freed memory to the system, a while after the start. Does nothing without glibc. */
export function returnFreedMemory(): void {
  if (process.platform !== "linux") return;
  const give = async () => (await import("../../shared/reactor/sys.ts")).trimHeap?.(0);
  // Where koffi can't be loaded, the memory stays with the process.
  setTimeout(() => void give().catch(() => {}), AFTER_MS).unref();
}
