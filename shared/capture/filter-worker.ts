/**
 * Compiles one filter, in a process of its own: libpcap's parser reads what a stranger wrote, and
 * neither a fault of its nor the time that it takes may be the device's.
 */
import { type CaptureFilterCode, CaptureFilterError } from "./filter-error.ts";
import { type BpfInstruction, compile } from "./libpcap.ts";

export interface FilterWork {
  readonly text: string;
  readonly linkType: number;
  readonly snapLength: number;
}

/** The program, or what CaptureFilterError says. */
export type FilterAnswer =
  | { readonly program: readonly BpfInstruction[] }
  | { readonly code: CaptureFilterCode; readonly message: string };

function answer({ text, linkType, snapLength }: FilterWork): FilterAnswer {
  try {
    return { program: compile(text, linkType, snapLength) };
  } catch (error) {
    if (!(error instanceof CaptureFilterError)) throw error;
    return { code: error.code, message: error.message };
  }
}

process.once("message", (work) => {
  process.send?.(answer(work as FilterWork), () => process.disconnect());
});
