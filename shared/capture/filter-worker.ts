/**
 * Compiles one filter, in a thread of its own: libpcap's compiler may ask the resolver for a host's
 * name and wait for it, and whoever moves frames must not.
 */
import { parentPort, workerData } from "node:worker_threads";
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

parentPort?.postMessage(answer(workerData as FilterWork));
