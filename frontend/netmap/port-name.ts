/**
 * Port names.
 *
 *   netmap: NAME [ {ID | }ID ] [ -K | ^ | ^K | * ] [ /FLAGS ] [ @MEMID ]
 *   vale SW : PORT             [ the same                              ]
 *
 *   NAME{ID NAME}ID   master and slave end of pipe ID      (none)  all NIC rings
 *   -K                NIC ring pair K                      ^ ^K    host rings, host ring pair K
 *   *                 NIC and host rings                   @N      memory region N
 *   /x exclusive   /t /r monitor transmit, receive   /z zero-copy monitor   /T /R only tx, rx rings
 *
 * Flags and memory id may come in either order, and may be repeated if they agree. `@` before
 * anything but a digit begins a list of options, which is returned unparsed.
 *
 * Source: netmap: libnetmap/nmreq.c, nmreq_header_decode, nmreq_register_decode. "+" for NIC and
 * host rings, in a comment of netmap.h, is not accepted there and not here.
 */
import { Errno } from "../bus/errno.ts";
import { NetmapError } from "./errors.ts";
import { RegFlag, RegMode, RING_MASK } from "./flags.ts";

export interface PortName {
  /** nr_name: without "netmap:", but with "valeX:" and with the suffix of a pipe. */
  readonly name: string;
  readonly mode: RegMode;
  readonly ringId: number;
  /** RegFlag bits. */
  readonly flags: number;
  /** 0 when not given. */
  readonly memId: number;
  /** The list of options, including its `@`. Empty without options. */
  readonly options: string;
}

/** Bytes of the longest nr_name. */
const NAME_LIMIT = 63;
const IDENTIFIER = /^[A-Za-z0-9_]*$/;
/** By the part of the suffix that names rings. K stands for a number. */
const MODE_OF: Readonly<Record<string, RegMode>> = {
  "": RegMode.ALL_NIC,
  "*": RegMode.NIC_SW,
  "-K": RegMode.ONE_NIC,
  "^": RegMode.SW,
  "^K": RegMode.ONE_SW,
};
const FLAG_OF: Readonly<Record<string, number>> = {
  x: RegFlag.EXCLUSIVE,
  z: RegFlag.ZCOPY_MON,
  t: RegFlag.MONITOR_TX,
  r: RegFlag.MONITOR_RX,
  R: RegFlag.RX_RINGS_ONLY,
  T: RegFlag.TX_RINGS_ONLY,
};

/** Parses a port name. Throws a NetmapError (EINVAL) that names the wrong part. */
export function parsePortName(port: string): PortName {
  const { name, suffix } = splitHead(port);
  return { name, ...parseSuffix(port, suffix) };
}

function bad(port: string, why: string): NetmapError {
  return new NetmapError(Errno.EINVAL, `${port === "" ? "an empty port name" : port}: ${why}`);
}

function splitHead(port: string): { name: string; suffix: string } {
  const isVale = port.startsWith("vale");
  if (!isVale && !port.startsWith("netmap")) throw bad(port, "must begin with netmap: or vale");
  const prefix = isVale ? "vale" : "netmap";
  const colon = port.indexOf(":", prefix.length);
  if (colon < 0) throw bad(port, "no colon after the prefix");
  const id = port.slice(prefix.length, colon);
  if (id !== "" && !isVale) throw bad(port, `no identifier may stand between netmap and ":"`);
  if (!IDENTIFIER.test(id)) throw bad(port, `"${id}" is no identifier`);

  const body = port.slice(colon + 1);
  const end = body.search(/[-*^/@]/);
  const local = end < 0 ? body : body.slice(0, end);
  const brace = local.search(/[{}]/);
  if (brace >= 0) {
    const pipe = local.slice(brace + 1);
    if (pipe === "") throw bad(port, "a pipe needs a name behind its bracket");
    if (!IDENTIFIER.test(pipe)) throw bad(port, `"${pipe}" is no pipe name`);
  }
  const name = isVale ? port.slice(0, colon + 1) + local : local;
  if (name === "") throw bad(port, "the port has no name");
  if (name.length > NAME_LIMIT) throw bad(port, `a name has at most ${NAME_LIMIT} characters`);
  return { name, suffix: end < 0 ? "" : body.slice(end) };
}

function parseSuffix(port: string, suffix: string): Omit<PortName, "name"> {
  const [rings, number = ""] = /^(?:\*|[-^](\d*))?/.exec(suffix)!;
  const mode = MODE_OF[number === "" ? rings : `${rings[0]}K`];
  if (mode === undefined) throw bad(port, "a ring number is expected");
  const ringId = Number(number);
  if (ringId >= RING_MASK) throw bad(port, `ring ${ringId} is not below ${RING_MASK}`);

  let flags = 0;
  let memId = 0;
  for (let rest = suffix.slice(rings.length); rest !== ""; ) {
    const [part, letters, id] = /^\/([^@]*)|^@(\d*)/.exec(rest) ?? [];
    if (part === undefined) throw bad(port, `"${rest[0]}" is not expected here`);
    if (rest === "/") throw bad(port, "no flags behind the slash");
    if (rest === "@") throw bad(port, "no memory id behind the @");
    if (id === "") return { mode, ringId, flags, memId, options: rest };
    if (letters !== undefined) flags |= flagsOf(port, letters);
    else memId = memoryId(port, Number(id), memId);
    rest = rest.slice(part.length);
  }
  return { mode, ringId, flags, memId, options: "" };
}

function flagsOf(port: string, letters: string): number {
  let flags = 0;
  for (const letter of letters) {
    const flag = FLAG_OF[letter];
    if (flag === undefined) throw bad(port, `"${letter}" is no flag`);
    flags |= flag;
  }
  return flags;
}

function memoryId(port: string, id: number, before: number): number {
  if (id === 0) throw bad(port, "memory ids begin with 1");
  if (before !== 0 && before !== id) throw bad(port, `two memory ids, ${before} and ${id}`);
  return id;
}
