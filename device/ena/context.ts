/** State and constants that the parts of one ENA function share. */
import { AdminStatus } from "../../shared/ena/admin.ts";
import { LogLimit } from "../../shared/log-limit.ts";
import { FaultSeverity } from "../../shared/wire/protocol.ts";
import { Kept } from "../kept.ts";
import type { NicHost } from "../nic.ts";
import { EnaCounters } from "./counters.ts";
import type { EnaOptions } from "./options.ts";

/** Deepest IO queue, in entries. A depth is any power of two from MIN_DEPTH on. */
export const MAX_DEPTH = 4096;
export const MAX_LLQ_DEPTH = 1024;
export const MIN_DEPTH = 2;
/** Most descriptors of a packet. Both drivers have the same limit (ENA_PKT_MAX_BUFS). */
export const MAX_PACKET_DESCS = 19;
/** Offsets in BAR 0 of the first doorbell, interrupt register and NUMA register (registers.ts). */
export const DOORBELLS = 0x1000;
export const UNMASKS = 0x2000;
export const NUMAS = 0x3000;
/** End of the address space: addresses have 48 bits. */
export const ADDRESS_END = 2 ** 48;
/** Smallest MTU in bytes: ENA_MIN_MTU of the drivers. */
export const MIN_MTU = 128;

export type QueueCommand = "CREATE_CQ" | "CREATE_SQ" | "DESTROY_CQ" | "DESTROY_SQ";
export type AdminRefusalCode =
  | "ADMIN_FEATURE_UNSUPPORTED"
  | "ADMIN_ILLEGAL_PARAMETER"
  | "ADMIN_STATS_UNSUPPORTED"
  | "AQ_COMMAND_ID_IN_USE"
  | "AQ_OPCODE_UNSUPPORTED"
  | `${QueueCommand}_REFUSED`;

/** Refuses an admin command. Code and message are reported as a fault. */
export class AdminRefusal extends Error {
  readonly code: AdminRefusalCode;
  readonly status: AdminStatus;
  constructor(
    code: AdminRefusalCode,
    message: string,
    status: AdminStatus = AdminStatus.ILLEGAL_PARAMETER,
  ) {
    // A driver can cause refusals at will, and a stack trace costs more than the whole command.
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    super(message);
    Error.stackTraceLimit = stackTraceLimit;
    this.name = "AdminRefusal";
    this.code = code;
    this.status = status;
  }
}

export class EnaContext {
  readonly host: NicHost;
  readonly kept: Kept;
  /** Log of lines that the driver can cause at will. Each kind is written at most once a second. */
  readonly lines: LogLimit;
  readonly counters = new EnaCounters();
  /** Number of faults, by code. */
  readonly faults = new Map<string, number>();
  readonly llq: boolean;
  readonly readless: boolean;
  readonly disableMetaCaching: boolean;
  readonly rssKeyReversed: boolean;
  /** Returns a random number below n. Undefined if completions are not shuffled. */
  readonly pick: ((n: number) => number) | undefined;
  /** Number of resets. A step that resumes after an await compares it, and stops if it changed. */
  generation = 0;
  /** Current MTU in bytes, without the Ethernet header. */
  mtu: number;

  constructor(host: NicHost, options: EnaOptions) {
    this.host = host;
    this.kept = new Kept(host);
    this.lines = new LogLimit(host.log, host.clock.now);
    this.llq = options.llq ?? true;
    this.readless = options.readless ?? true;
    this.disableMetaCaching = options.disableMetaCaching ?? false;
    this.rssKeyReversed = (options.rssKeyOrder ?? "reversed") === "reversed";
    this.pick = options.completionOrder === "shuffle" ? picker(options.seed ?? 1) : undefined;
    this.mtu = host.config.maxMtu;
  }

  /** Reports a fault that hardware tolerates or answers with a status. */
  note(code: string, text: string): void {
    this.fault(FaultSeverity.NOTE, code, text);
  }

  /** Reports a fault. */
  fault(severity: FaultSeverity, code: string, text: string): void {
    this.faults.set(code, (this.faults.get(code) ?? 0) + 1);
    this.host.fault(severity, code, text);
  }
}

/** Random generator xorshift32: small, seeded, and good enough to shuffle an order. */
function picker(seed: number): (n: number) => number {
  let x = seed | 0 || 1;
  return (n) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % n;
  };
}
