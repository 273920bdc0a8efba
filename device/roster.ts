/**
 * The NICs of a device by name and address, and the decision about a newcomer.
 *
 *   hello ──► name or address in use?
 *               │ by the same process ................. it takes its own place back
 *               │ by a frontend that is silent ........ the newcomer takes the place
 *               │ by a frontend that is alive ......... refused; with `numbered` another name,
 *               ▼                                       with `takeOver` the place
 *             admitted
 */
import { formatMac, macFromName, macKey, parseUnicastMac } from "../shared/net/ethernet.ts";
import type { Hello } from "../shared/wire/hello.ts";
import { CloseCode, Limits } from "../shared/wire/protocol.ts";
import { Refusal } from "./admission.ts";
import type { Switch } from "./switch/switch.ts";

/** Properties of a connection with a NIC that the roster needs. */
export interface Member {
  /** Time (s) without a sign of life. A frontend gives one each second. */
  readonly silentSeconds: number;
  /** Time (s) of silence after which the frontend counts as dead; Infinity for never. */
  readonly deadAfter: number;
  close(code: CloseCode, reason: string): void;
}

/** A frontend that is silent for this part of its `deadAfter` loses its place to a newcomer. */
const SILENT_PART = 0.5;
/** Most digits of a number at the end of a name. With more digits they are part of the name. */
const MAX_DIGITS = 9;

/** What the roster needs of a segment. */
type Home = Pick<Switch, "name" | "hasPort" | "optionsOf">;

export interface Place {
  readonly name: string;
  readonly mac: Uint8Array;
}

interface Entry<M> {
  readonly name: string;
  /** The address as a number, see `macKey`. */
  readonly macKey: number;
  readonly member: M;
  readonly instance: string;
}

export class Roster<M extends Member> {
  readonly #segment: Home;
  readonly #most: number;
  readonly #hasPlace: () => boolean;
  readonly #byName = new Map<string, Entry<M>>();
  readonly #byMac = new Map<number, Entry<M>>();
  readonly #entries = new Map<M, Entry<M>>();

  /**
   * The name of `segment` is a part of computed addresses. `most` is the largest number of NICs of
   * the device, and `hasPlace` says whether it has fewer now.
   */
  constructor(segment: Home, most: number, hasPlace: () => boolean = () => this.size < most) {
    this.#segment = segment;
    this.#most = most;
    this.#hasPlace = hasPlace;
  }

  get size(): number {
    return this.#byName.size;
  }

  get(name: string): M | undefined {
    return this.#byName.get(name)?.member;
  }

  get all(): M[] {
    return [...this.#byName.values()].map(({ member }) => member);
  }

  /** Yields the name of each NIC and its address, as a MAC key. */
  *names(): Generator<{ readonly name: string; readonly mac: number }> {
    for (const { name, macKey: mac } of this.#byName.values()) yield { name, mac };
  }

  /** Returns the name of the NIC with an address (a MAC key). */
  nameOf(mac: number): string | undefined {
    return this.#byMac.get(mac)?.name;
  }

  /**
   * Gives `newcomer` a place, and ends the connection that held it before. Throws Refusal. `may` says
   * whether the newcomer may have a name that it did not ask for.
   */
  admit(newcomer: M, hello: Hello, may: (name: string) => boolean = () => true): Place {
    const { name, mac } = this.#choose(hello, may);
    const key = macKey(mac, 0);
    const holders = [this.#byName.get(name), this.#byMac.get(key)];
    const replaced = new Set(holders.filter((holder) => holder !== undefined));
    if (replaced.size === 0 && !this.#hasPlace()) {
      throw new Refusal(
        "NO_PLACE",
        `this device accepts ${this.#most} NICs, and has no place for another in segment ${this.#segment.name}`,
      );
    }
    for (const { name: other, member, instance } of replaced) {
      const silent = isSilent(member);
      member.close(
        CloseCode.REPLACED,
        instance === hello.instance
          ? "replaced by a newer connection of the same process"
          : `another frontend took the ${other === name ? "name" : "address"} of ${other}${silent ? `, which gave no sign of life for ${member.silentSeconds} s` : ""}`,
      );
    }
    const entry = { name, macKey: key, member: newcomer, instance: hello.instance };
    this.#byName.set(name, entry);
    this.#byMac.set(key, entry);
    this.#entries.set(newcomer, entry);
    return { name, mac };
  }

  /** Forgets a member. A newer one with its name or address keeps them. */
  remove(member: M): void {
    const entry = this.#entries.get(member);
    if (entry === undefined) return;
    this.#entries.delete(member);
    if (this.#byName.get(entry.name) === entry) this.#byName.delete(entry.name);
    if (this.#byMac.get(entry.macKey) === entry) this.#byMac.delete(entry.macKey);
  }

  #choose(hello: Hello, may: (name: string) => boolean): Place {
    const { name } = hello;
    const first = { name, mac: this.#macOf(hello, name) };
    const why = this.#inTheWay(first, hello);
    if (why === undefined) return first;
    // The newcomer asks for an address that another NIC has. No other name would solve that.
    if (why.code === "MAC_IN_USE" && hello.mac !== undefined) throw why;
    const next = this.#nextFree(hello);
    if (hello.numbered !== true) {
      throw new Refusal(why.code, `${why.message}; the next free name is "${next.name}"`);
    }
    if (!may(next.name)) throw why;
    const still = this.#inTheWay(next, hello);
    if (still !== undefined) throw still;
    return next;
  }

  /** Returns the address that the NIC gets. Throws Refusal for one that the rules do not allow. */
  #macOf(hello: Hello, name: string): Uint8Array {
    const allowed = this.#segment.optionsOf(name).addresses?.map(parseUnicastMac);
    const wanted = hello.mac === undefined ? undefined : parseUnicastMac(hello.mac);
    if (allowed === undefined) return wanted ?? macFromName(name, this.#segment.name);
    if (wanted === undefined) return allowed[0]!;
    if (allowed.some((mac) => macKey(mac, 0) === macKey(wanted, 0))) return wanted;
    throw new Refusal(
      "MAC_DENIED",
      `"${name}" may not have the address ${formatMac(wanted)}, but ${allowed.map((mac) => formatMac(mac)).join(", ")}`,
    );
  }

  /** Returns the reason why the place is not available, or undefined if it is. */
  #inTheWay({ name, mac }: Place, hello: Hello): Refusal | undefined {
    const owner = this.#byName.get(name);
    if (owner === undefined && this.#segment.hasPort(name)) {
      return new Refusal(
        "NAME_IN_USE",
        `"${name}" is the name of an uplink of this device, or of its services`,
      );
    }
    if (owner !== undefined && hello.takeOver !== true && isHeld(owner, hello)) {
      return new Refusal(
        "NAME_IN_USE",
        `"${name}" is the name of another NIC, whose frontend is alive`,
      );
    }
    const other = this.#byMac.get(macKey(mac, 0));
    if (other === undefined || other.name === name || !isHeld(other, hello)) return undefined;
    return new Refusal("MAC_IN_USE", `${formatMac(mac)} is the address of ${other.name}`);
  }

  /** Returns the next name whose place is free, or with a requested address the next free name. */
  #nextFree(hello: Hello): Place {
    const [, stem = "", digits = ""] = /^(.*?)(\d*)$/.exec(hello.name) ?? [];
    const numbered = digits.length > 0 && digits.length <= MAX_DIGITS;
    const base = numbered ? stem : hello.name;
    for (let n = (numbered ? Number(digits) : 0) + 1; ; n++) {
      const number = String(n);
      // In a name of full length the number replaces the last letters. No reserved name ends in a
      // digit.
      const name = `${base.slice(0, Limits.NAME_BYTES - 1 - number.length)}${number}`;
      if (this.#byName.has(name) || this.#segment.hasPort(name)) continue;
      const place = { name, mac: this.#macOf(hello, name) };
      if (hello.mac !== undefined || this.#inTheWay(place, hello) === undefined) return place;
    }
  }
}

const isSilent = ({ silentSeconds, deadAfter }: Member): boolean =>
  silentSeconds >= deadAfter * SILENT_PART;

/** Returns true if another process that is alive holds the place. */
function isHeld(
  { member, instance }: { readonly member: Member; readonly instance: string },
  hello: Hello,
): boolean {
  return instance !== hello.instance && !isSilent(member);
}
