/**
 * libpcap's compiler for capture filters, through koffi. Only `filter.ts` loads this file, and
 * only when a filter is asked for, so that a process without one never loads koffi or libpcap.
 *
 * Source: libpcap: pcap/pcap.h, pcap/bpf.h.
 */
import koffi from "koffi";
import { LinkType } from "../pcapng/layout.ts";
import { CaptureFilterError } from "./filter-error.ts";

/** The name Debian gives it, the usual one, and macOS's. */
const NAMES = ["libpcap.so.0.8", "libpcap.so.1", "libpcap.A.dylib"];
/** pcap_compile's netmask when there is none: the filter "ip broadcast" is then refused. */
const PCAP_NETMASK_UNKNOWN = 0xffffffff;

/** pcap_compile's snap length becomes the "accept" answer: a whole frame. */
const ACCEPT_BYTES = 262_144;

/** struct bpf_insn. */
export interface BpfInstruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

type Pointer = unknown;
interface Program {
  bf_len?: number;
  bf_insns?: Pointer;
}

interface Library {
  openDead(linkType: number, snapLength: number): Pointer;
  compile(handle: Pointer, program: Program, text: string, optimise: number, mask: number): number;
  error(handle: Pointer): string;
  freeCode(program: Program): void;
  close(handle: Pointer): void;
}

let library: Library | undefined;

function load(): Library {
  const lib = openLibrary(NAMES);
  koffi.struct("ringwire_bpf_program", { bf_len: "unsigned int", bf_insns: "void *" });
  koffi.struct("ringwire_bpf_insn", {
    code: "uint16_t",
    jt: "uint8_t",
    jf: "uint8_t",
    k: "uint32_t",
  });
  return {
    openDead: lib.func("void *pcap_open_dead(int linktype, int snaplen)"),
    compile: lib.func(
      "int pcap_compile(void *p, _Out_ ringwire_bpf_program *fp, const char *str, int optimize, unsigned int netmask)",
    ),
    error: lib.func("const char *pcap_geterr(void *p)"),
    freeCode: lib.func("void pcap_freecode(_Inout_ ringwire_bpf_program *fp)"),
    close: lib.func("void pcap_close(void *p)"),
  } as unknown as Library;
}

/** The first of the libraries that there is. Throws CaptureFilterError, naming the package. */
export function openLibrary(names: readonly string[]): ReturnType<typeof koffi.load> {
  let why = "";
  for (const name of names) {
    try {
      return koffi.load(name);
    } catch (error) {
      why ||= error instanceof Error ? error.message : String(error);
    }
  }
  throw new CaptureFilterError(
    "LIBPCAP",
    `capture filters need libpcap: install Debian's package libpcap0.8 (${why})`,
  );
}

/**
 * The program of a filter for Ethernet frames. Throws CaptureFilterError: what libpcap says of the text, in its words,
 * or that there is no libpcap. A filter with a host's name asks the resolver, and waits for it.
 */
export function compile(text: string): BpfInstruction[] {
  library ??= load();
  const handle = library.openDead(LinkType.ETHERNET, ACCEPT_BYTES);
  if (handle === null) throw new CaptureFilterError("LIBPCAP", "libpcap: pcap_open_dead failed");
  try {
    const program: Program = {};
    if (library.compile(handle, program, text, 1, PCAP_NETMASK_UNKNOWN) !== 0) {
      throw new CaptureFilterError("FILTER", library.error(handle));
    }
    const all = koffi.array("ringwire_bpf_insn", program.bf_len ?? 0);
    const instructions = koffi.decode(program.bf_insns, all) as BpfInstruction[];
    library.freeCode(program);
    return instructions;
  } finally {
    library.close(handle);
  }
}
