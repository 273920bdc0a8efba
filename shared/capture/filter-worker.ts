/**
 * Compiles one filter, in a process of its own: libpcap's parser reads what a stranger wrote, and
 * neither a fault of its nor the time that it takes may be the device's.
 */
import { type CaptureFilterCode, CaptureFilterError } from "./filter-error.ts";
import { type BpfInstruction, compile } from "./libpcap.ts";

/** The program, or what CaptureFilterError says. */
export type FilterAnswer =
  | { readonly program: readonly BpfInstruction[] }
  | { readonly code: CaptureFilterCode; readonly message: string };

function answer(text: string): FilterAnswer {
  try {
    return { program: compile(text) };
  } catch (error) {
    if (!(error instanceof CaptureFilterError)) throw error;
    return { code: error.code, message: error.message };
  }
}

process.once("message", (text) => {
  process.send?.(answer(text as string), () => process.disconnect());
});
