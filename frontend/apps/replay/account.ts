/** Accounts for each packet of a replayed file. */
import type { CapturedPacket } from "../../../shared/pcapng/packet.ts";
import type { Ifnet } from "../../net/ifnet.ts";
import { explain, type FileSkip, Skip } from "./outgoing.ts";
import type { Selection } from "./selection.ts";

export class ReplayResult {
  /** Number of passes that reached the end of the file. */
  passes = 0;
  /** Number of packets read: Counts.packets and all skipped packets. */
  read = 0;
  readonly skipped = Object.fromEntries(Object.values(Skip).map((skip) => [skip, 0])) as Record<
    Skip,
    number
  >;
  /** Names of the interfaces with Ethernet frames, in the part of the file that was read. */
  interfaces: string[] = [];
  /** Interfaces that the user chose and that are not in `interfaces`. */
  missing: string[] = [];
  /** Number of runts among the sent packets. */
  padded = 0;
  /** Number of sent packets that the driver dropped, and that it still held at the end. */
  lost = 0;
  inFlight = 0;
  /** Reason why the file could not be read to its end. */
  broken: string | undefined = undefined;
}

export class Account {
  readonly result = new ReplayResult();
  readonly #ifnet: Ifnet;
  readonly #warn: (sentence: string) => void;
  readonly #lostBefore: number;
  /** Reasons and link types that were reported already. */
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

  skipped(packet: CapturedPacket, why: FileSkip): void {
    const key = why === Skip.NOT_ETHERNET ? packet.linkType : why;
    this.#skip(why, key, () => explain(why, packet, this.#ifnet));
  }

  /** Counts a packet that the driver refused for good. */
  refused(): void {
    this.#skip(Skip.REFUSED, Skip.REFUSED, () => "was refused by the driver");
  }

  #skip(why: Skip, key: Skip | number, what: () => string | undefined): void {
    this.result.read++;
    this.result.skipped[why]++;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    const text = what();
    if (text === undefined) return;
    this.#warn(`packet ${this.result.read} ${text}; skipped, as are others like it`);
  }

  /** Warns about a long gap (ms), in which the user may wonder why nothing is sent. */
  waits(gapMs: number): void {
    const what = `${this.result.read + 1} comes ${longText(gapMs)} behind the one before it`;
    this.#warn(`packet ${what}: it is waited for, to keep the gaps of the file`);
  }

  close(inFlight: number, { interfaces, missing }: Selection): void {
    this.result.interfaces = [...interfaces.values()];
    this.result.missing = missing;
    this.result.inFlight = inFlight;
    this.result.lost = lostBy(this.#ifnet) - this.#lostBefore;
  }
}

/** Returns a text such as "90 s", "40 min", "20 h" or "20541 days": at least two of the unit. */
function longText(ms: number): string {
  const [, each, unit] = UNITS.find(([least]) => ms >= least)!;
  return `${Math.round(ms / each)} ${unit}`;
}

const UNITS = [
  [48 * 3_600_000, 24 * 3_600_000, "days"],
  [2 * 3_600_000, 3_600_000, "h"],
  [2 * 60_000, 60_000, "min"],
  [0, 1000, "s"],
] as const;

/** Number of frames that the driver accepted and then dropped. */
const lostBy = ({ counters }: Ifnet): number => counters.oqdrops + counters.oerrors;
