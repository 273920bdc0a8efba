/**
 * Which packets of a capture are to be sent: those of the interfaces that were chosen, and each frame
 * once. A capture of several ports has a frame at every port that it passed, under one id.
 *
 *   ena0  out  id 7  super-frame     the first sighting: sent
 *   switch     id 7  super-frame     another interface: a copy
 *   ena1  in   id 7  segment 1       a copy
 *   ena1  in   id 7  segment 2       a copy
 *
 * Where only ena1 was captured, both segments are first sightings: copies are on other interfaces.
 * Ids of different programs may be the same in a file that was put together. So a copy also has the
 * addresses of the first sighting, and nearly its time.
 *
 * Source: draft-ietf-opsawg-pcapng, section 4.3 (epb_packetid).
 */
import type { CapturedPacket } from "../../../shared/pcapng/packet.ts";
import { type FileSkip, LINK_ETHERNET, Skip } from "./outgoing.ts";

/** Ids remembered: sightings of a frame are close together. */
const MAX_IDS = 65_536;
const NEAR_NS = 1_000_000_000n;
const ADDRESS_BYTES = 12;

interface Sighting {
  readonly on: number;
  readonly addresses: string;
  readonly tsNs: bigint;
}

export class Selection {
  /** Interfaces with Ethernet frames, by index: what they are called. */
  readonly interfaces = new Map<number, string>();
  readonly #chosen: ReadonlySet<string>;
  readonly #found = new Set<string>();
  readonly #seen = new Map<bigint, Sighting>();

  /** Names or numbers of interfaces; none: all of them. */
  constructor(chosen: readonly string[]) {
    this.#chosen = new Set(chosen);
  }

  /** Interfaces that the user chose and that the file does not have. */
  get missing(): string[] {
    return [...this.#chosen].filter((name) => !this.#found.has(name));
  }

  /** The file begins again. */
  rewind(): void {
    this.#seen.clear();
  }

  /** Why the packet is left out; undefined: it is to be sent. */
  skips(packet: CapturedPacket): FileSkip | undefined {
    const { interface: on, linkType } = packet;
    const name = on.name ?? String(on.index);
    if (linkType === LINK_ETHERNET && !this.interfaces.has(on.index)) {
      this.interfaces.set(on.index, name);
    }
    if (this.#chosen.size > 0) {
      const by = this.#chosen.has(name) ? name : String(on.index);
      if (!this.#chosen.has(by)) return Skip.NOT_CHOSEN;
      this.#found.add(by);
    }
    return linkType === LINK_ETHERNET && this.#isCopy(packet) ? Skip.COPY : undefined;
  }

  #isCopy({ id, interface: { index: on }, bytes, tsNs = 0n }: CapturedPacket): boolean {
    if (id === undefined) return false;
    const addresses = Buffer.from(bytes.subarray(0, ADDRESS_BYTES)).toString("latin1");
    const first = this.#seen.get(id);
    if (first !== undefined && first.addresses === addresses) {
      const apart = tsNs > first.tsNs ? tsNs - first.tsNs : first.tsNs - tsNs;
      if (apart <= NEAR_NS) return first.on !== on;
    }
    this.#seen.delete(id);
    this.#seen.set(id, { on, addresses, tsNs });
    if (this.#seen.size > MAX_IDS) this.#seen.delete(this.#seen.keys().next().value!);
    return false;
  }
}
