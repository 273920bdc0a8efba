/**
 * Selects the packets of a capture to send: those of the chosen interfaces, and each frame once. A
 * capture of several ports contains a frame at every port that the frame passed, with one id.
 *
 *   ena0  out  id 7  super-frame     the first sighting: sent
 *   switch     id 7  super-frame     another interface: a copy
 *   ena1  in   id 7  segment 1       a copy
 *   ena1  in   id 7  segment 2       a copy
 *
 * If only ena1 was captured, both segments are first sightings, because a copy is always on another
 * interface. A file merged from captures of several programs may contain an id twice. So a copy
 * must also have the addresses of the first sighting, and nearly its time.
 *
 * Source: draft-ietf-opsawg-pcapng, section 4.3 (epb_packetid).
 */
import type { CapturedPacket } from "../../../shared/pcapng/packet.ts";
import { type FileSkip, LINK_ETHERNET, Skip } from "./outgoing.ts";

/** Number of ids remembered. Sightings of a frame are close together in the file. */
const MAX_IDS = 65_536;
const NEAR_NS = 1_000_000_000n;
const ADDRESS_BYTES = 12;

interface Sighting {
  readonly on: number;
  readonly addresses: string;
  readonly tsNs: bigint;
}

export class Selection {
  /** Names of the interfaces with Ethernet frames, by index. */
  readonly interfaces = new Map<number, string>();
  readonly #chosen: ReadonlySet<string>;
  readonly #found = new Set<string>();
  readonly #seen = new Map<bigint, Sighting>();

  /** `chosen` contains names or numbers of interfaces. An empty array chooses all. */
  constructor(chosen: readonly string[]) {
    this.#chosen = new Set(chosen);
  }

  /** Interfaces that the user chose and that the file does not have. */
  get missing(): string[] {
    return [...this.#chosen].filter((name) => !this.#found.has(name));
  }

  /** Forgets all sightings. Call when the file begins again. */
  rewind(): void {
    this.#seen.clear();
  }

  /** Returns the reason why the packet is left out, or undefined if it is to be sent. */
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
