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
const DIGIT = /^[0-9]$/;
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
  const { name, rest } = splitHead(port);
  return new SuffixParser(port, name, rest).parse();
}

function bad(port: string, why: string): NetmapError {
  return new NetmapError(Errno.EINVAL, `${port === "" ? "an empty port name" : port}: ${why}`);
}

function splitHead(port: string): { name: string; rest: string } {
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
  return { name, rest: end < 0 ? "" : body.slice(end) };
}

class SuffixParser {
  readonly #port: string;
  readonly #name: string;
  readonly #text: string;
  #at = 0;
  #mode: RegMode = RegMode.ALL_NIC;
  #ringId = 0;
  #flags = 0;
  #memId = 0;
  #options = "";

  constructor(port: string, name: string, text: string) {
    this.#port = port;
    this.#name = name;
    this.#text = text;
  }

  parse(): PortName {
    this.#rings();
    while (this.#at < this.#text.length && this.#options === "") {
      const c = this.#take();
      if (c === "/") this.#flagLetters();
      else if (c === "@") this.#memory();
      else throw bad(this.#port, `"${c}" is not expected here`);
    }
    return {
      name: this.#name,
      mode: this.#mode,
      ringId: this.#ringId,
      flags: this.#flags,
      memId: this.#memId,
      options: this.#options,
    };
  }

  #peek(): string {
    return this.#text.charAt(this.#at);
  }
  #take(): string {
    return this.#text.charAt(this.#at++);
  }

  #rings(): void {
    switch (this.#peek()) {
      case "*":
        this.#at++;
        this.#mode = RegMode.NIC_SW;
        break;
      case "-":
        this.#at++;
        this.#mode = RegMode.ONE_NIC;
        this.#ringId = this.#ringNumber();
        break;
      case "^":
        this.#at++;
        this.#mode = RegMode.SW;
        if (!DIGIT.test(this.#peek())) break;
        this.#mode = RegMode.ONE_SW;
        this.#ringId = this.#ringNumber();
    }
  }

  #ringNumber(): number {
    const n = this.#number("a ring number");
    if (n >= RING_MASK) throw bad(this.#port, `ring ${n} is not below ${RING_MASK}`);
    return n;
  }

  #flagLetters(): void {
    if (this.#at === this.#text.length) throw bad(this.#port, "no flags behind the slash");
    if (this.#peek() === "@") return;
    while (this.#at < this.#text.length && this.#peek() !== "@") {
      const letter = this.#take();
      const flag = FLAG_OF[letter];
      if (flag === undefined) throw bad(this.#port, `"${letter}" is no flag`);
      this.#flags |= flag;
    }
  }

  #memory(): void {
    if (this.#at === this.#text.length) throw bad(this.#port, "no memory id behind the @");
    if (!DIGIT.test(this.#peek())) {
      this.#options = this.#text.slice(this.#at - 1);
      return;
    }
    const id = this.#number("a memory id");
    if (id === 0) throw bad(this.#port, "memory ids begin with 1");
    if (this.#memId !== 0 && this.#memId !== id) {
      throw bad(this.#port, `two memory ids, ${this.#memId} and ${id}`);
    }
    this.#memId = id;
  }

  #number(what: string): number {
    const digits = /^[0-9]+/.exec(this.#text.slice(this.#at))?.[0];
    if (digits === undefined) throw bad(this.#port, `${what} is expected`);
    this.#at += digits.length;
    return Number(digits);
  }
}
