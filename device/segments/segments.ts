/**
 * The segments of a device: each is a switch with its NICs. Nothing passes from one to another.
 *
 *   hello ──► Segments.choose ──► Segment ──► Roster.admit: name and address
 */
import type { Hello } from "../../shared/wire/hello.ts";
import { Refusal } from "../admission.ts";
import { type Member, Roster } from "../roster.ts";
import type { ServiceHost } from "../services/host.ts";
import { SERVICES_PORT } from "../services/options.ts";
import type { Neighbourhood } from "../services/request.ts";
import type { Switch } from "../switch/switch.ts";
import { keptPlaces } from "./shares.ts";

/** Rights on segments. */
export interface Sight {
  /** Returns whether the segment exists for this client. */
  sees(segment: string): boolean;
}

/** One Ethernet segment. */
export interface Segment<M> {
  readonly name: string;
  readonly switch: Switch;
  readonly nics: Roster<M & Member>;
  /** What the host of the services asks about the segment. */
  readonly neighbourhood: Neighbourhood;
  /** Undefined without services. */
  services: ServiceHost | undefined;
}

export class Segments<M extends Member> {
  readonly all: readonly Segment<M>[];
  readonly #byName: ReadonlyMap<string, Segment<M>>;

  /** `most` is the largest number of NICs in all segments together. */
  constructor(switches: readonly Switch[], most: number) {
    this.all = switches.map((one) => {
      const hasPlace = (): boolean => {
        const others = this.all.filter((segment) => segment.switch !== one);
        const used = others.map((segment) => segment.nics.size);
        return this.nicCount + keptPlaces(most, switches.length, used) < most;
      };
      const nics = new Roster<M>(one, most, hasPlace);
      const neighbourhood = {
        nics: () => nics.names(),
        nameOf: (mac: number) => nics.nameOf(mac),
        portOf: (mac: number) => one.portOf(mac, SERVICES_PORT),
      };
      return { name: one.name, switch: one, nics, neighbourhood, services: undefined };
    });
    this.#byName = new Map(this.all.map((segment) => [segment.name, segment]));
  }

  get nicCount(): number {
    return this.all.reduce((sum, { nics }) => sum + nics.size, 0);
  }

  get nics(): M[] {
    return this.all.flatMap(({ nics }) => nics.all);
  }

  get(name: string): Segment<M> | undefined {
    return this.#byName.get(name);
  }

  seenBy(client: Sight): readonly Segment<M>[] {
    return this.all.filter(({ name }) => client.sees(name));
  }

  /** Returns the segment that a hello joins. Throws Refusal, which names no hidden segment. */
  choose({ segment: wanted }: Hello, client: Sight): Segment<M> {
    const seen = this.seenBy(client);
    const found = wanted === undefined ? seen[0] : seen.find(({ name }) => name === wanted);
    if (found !== undefined) return found;
    const names = seen.map(({ name }) => name).join(", ");
    throw new Refusal(
      "SEGMENT",
      wanted === undefined
        ? "this client may join no segment of this device"
        : `there is no segment "${wanted}" for this NIC; there is ${names || "none"}`,
    );
  }

  /**
   * Returns the NIC that a client names, as NIC or as SEGMENT/NIC, or a sentence that says why there
   * is none.
   */
  find(text: string, client: Sight): M | string {
    const [first = "", second] = text.split("/", 2);
    const seen = this.seenBy(client);
    const found = seen.flatMap(({ name, nics }) => {
      if (second !== undefined && name !== first) return [];
      const nic = nics.get(second ?? first);
      return nic === undefined ? [] : [{ name, nic }];
    });
    const [only] = found;
    if (only === undefined) return `this device has no NIC "${text}"`;
    if (found.length === 1) return only.nic;
    const names = found.map(({ name }) => `${name}/${first}`).join(", ");
    return `there are several NICs "${text}": name one of them as ${names}`;
  }
}

/** Sees all segments. */
export const EVERYTHING: Sight = { sees: () => true };
