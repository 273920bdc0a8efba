/** Where each packet of a replayed file went. */
import type { CapturedPacket } from "../../../shared/capture/pcapng/packet.ts";
import type { Ifnet } from "../../net/ifnet.ts";
import { explain, Skip } from "./outgoing.ts";

export interface ReplayResult {
  /** Passes that came to the end of the file. */
  passes: number;
  /** Packets: Counts.packets and all that were skipped. */
  read: number;
  readonly skipped: Record<Skip, number>;
  /** Runts among the sent. */
  padded: number;
  /** Of those sent: dropped by the driver, and still with it at the end. */
  lost: number;
  inFlight: number;
  /** Why the file could not be read to its end. */
  broken?: string;
}

export class Account {
  readonly result: ReplayResult = {
    passes: 0,
    read: 0,
    skipped: Object.fromEntries(Object.values(Skip).map((skip) => [skip, 0])) as Record<
      Skip,
      number
    >,
    padded: 0,
    lost: 0,
    inFlight: 0,
  };
  readonly #ifnet: Ifnet;
  readonly #warn: (sentence: string) => void;
  readonly #lostBefore: number;
  /** Reasons that were told, and link types. */
  readonly #told = new Set<Skip | number>();

  constructor(ifnet: Ifnet, warn: (sentence: string) => void) {
    this.#ifnet = ifnet;
    this.#warn = warn;
    this.#lostBefore = lostBy(ifnet);
  }

  sent(padding: number): void {
    this.result.read++;
    if (padding > 0) this.result.padded++;
  }

  skipped(packet: CapturedPacket, why: Skip): void {
    this.result.read++;
    this.result.skipped[why]++;
    const key = why === Skip.NOT_ETHERNET ? packet.linkType : why;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    const what = explain(why, packet, this.#ifnet.mtu);
    this.#warn(`packet ${this.result.read} ${what}; skipped, as are others like it`);
  }

  close(inFlight: number): void {
    this.result.inFlight = inFlight;
    this.result.lost = lostBy(this.#ifnet) - this.#lostBefore;
  }
}

/** Frames that the driver took and then had to drop. */
const lostBy = ({ counters }: Ifnet): number => counters.oqdrops + counters.oerrors;
