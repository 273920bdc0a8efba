/**
 * The events of a device, for readers over HTTP. The feed keeps the last events, so that a reader
 * whose connection broke can go on behind the last event that it has.
 *
 *   publish ──► kept events (bounded) ──► a reader that comes back
 *         └───► readers (bounded), each with its scope ──► a slow one is cut
 */
import { randomBytes } from "node:crypto";
import type { DeviceEvent } from "../../shared/status/device-events.ts";
import type { DeviceStatus } from "../../shared/status/device-status.ts";
import { keptPlaces } from "../segments/shares.ts";

/** Most characters of all events that are kept. One event has 150 to 1500. */
const MAX_KEPT_CHARS = 512 * 1024;
/** Most readers at the same time. */
export const MAX_READERS = 32;
/** Most bytes that may wait for one reader, more than all kept events have. More cut it off. */
const MAX_WAITING_BYTES = 1 << 20;
/** Time (ms) for which a reader may accept nothing while bytes wait. */
export const STALL_MS = 60_000;
/** Time (ms) without an event after which a reader gets a heartbeat. */
export const HEARTBEAT_MS = 15_000;
/** Most characters of a sentence in an event. A peer may have chosen it. */
const MAX_TEXT_CHARS = 400;

/** In place of an id: from the oldest event on. */
export const START = "0";

/** An event of the segment `segment`, without the fields that the feed adds. */
export type News = { readonly segment: string } & (
  | Pick<Of<"joined">, "event" | "name" | "mac" | "peer">
  | Pick<Of<"left">, "event" | "name" | "mac" | "peer" | "reason">
  | Pick<Of<"fault">, "event" | "name" | "severity" | "code" | "text">
  | Pick<Of<"uplink-lost">, "event" | "name" | "reason">
  | Pick<Of<"drops">, "event" | "port" | "in" | "out">
);
type Of<N extends DeviceEvent["event"]> = Extract<DeviceEvent, { event: N }>;

type Fields = { readonly event: DeviceEvent["event"] } & Readonly<Record<string, unknown>>;

/** An event as a reader gets it. All readers share the text. */
export interface Item {
  readonly event: DeviceEvent["event"];
  readonly id: string;
  readonly json: string;
}

/** A reader, as the page makes it. */
export interface ReaderEnd {
  /** True if the reader may see the events of this segment. */
  sees(segment: string): boolean;
  send(item: Item): void;
  /** Number of bytes that the reader has not accepted. */
  readonly waitingBytes: number;
  /** Ends the answer in good order. */
  end(): void;
  /** Cuts the connection. */
  cut(): void;
}

interface Kept extends Item {
  readonly number: number;
  readonly segment: string;
}

interface Reader {
  readonly end: ReaderEnd;
  lastSent: number;
  /** Time (ms) of the first tick of those since which bytes wait; undefined while none do. */
  waitingSince: number | undefined;
}

/** An answer that goes on. */
export interface Reading {
  /** The reader has left. */
  leave(): void;
  /** Ends the answer with the reason as its last event. */
  end(reason: string): void;
}

/** The place in the feed from which a reader goes on. */
export interface Place {
  readonly number: number;
  /** True when events behind the reader's last one are gone. */
  readonly missed: boolean;
}

export class EventFeed {
  readonly #segments: readonly string[];
  readonly #now: () => number;
  /** Differs for each run of a device, so that no id of an earlier run fits. */
  readonly #run = randomBytes(4).toString("hex");
  /** Oldest first. */
  readonly #kept: Kept[] = [];
  #keptChars = 0;
  readonly #readers = new Set<Reader>();
  #published = 0;
  #cutOff = 0;

  /** `segments` are the names of the device's segments. `now` returns the time in ms. */
  constructor(segments: readonly string[] = [], now: () => number = () => performance.now()) {
    this.#segments = segments;
    this.#now = now;
  }

  /** True if a reader with these rights leaves enough places to others. */
  hasPlace(client: Pick<ReaderEnd, "sees">): boolean {
    const readers = [...this.#readers];
    const others = this.#segments.filter((name) => !client.sees(name));
    const used = others.map((name) => readers.filter(({ end }) => end.sees(name)).length);
    return readers.length + keptPlaces(MAX_READERS, this.#segments.length, used) < MAX_READERS;
  }

  snapshot(): DeviceStatus["events"] {
    return { readers: this.#readers.size, published: this.#published, cutOff: this.#cutOff };
  }

  publish(news: News): void {
    const number = ++this.#published;
    const item = { ...this.#item(number, news), number, segment: news.segment };
    this.#kept.push(item);
    this.#keptChars += item.json.length;
    while (this.#keptChars > MAX_KEPT_CHARS) this.#keptChars -= this.#kept.shift()!.json.length;
    for (const reader of this.#readers) this.#give(reader, item);
  }

  /**
   * The place behind the event `id`, which an earlier answer of this device carried. Without an id the
   * place is the present, with START it is that of the oldest kept event. An id of another run of the
   * device means the oldest, too.
   */
  placeOf(id: string | undefined): Place {
    if (id === undefined) return { number: this.#published, missed: false };
    const oldest = (this.#kept[0]?.number ?? this.#published + 1) - 1;
    if (id === START) return { number: oldest, missed: oldest > 0 };
    const [run, digits = ""] = id.split("-");
    const number = run === this.#run ? Number(digits) : Number.NaN;
    if (number > this.#published || Number.isNaN(number)) return { number: oldest, missed: true };
    return number < oldest ? { number: oldest, missed: true } : { number, missed: false };
  }

  /** Adds a reader from a place on. */
  read(end: ReaderEnd, { number, missed }: Place): Reading {
    const reader: Reader = { end, lastSent: this.#now(), waitingSince: undefined };
    this.#readers.add(reader);
    this.#send(reader, this.#item(number, { event: "begun", missed }));
    for (const item of this.#kept) if (item.number > number) this.#give(reader, item);
    return {
      leave: () => void this.#readers.delete(reader),
      end: (reason) => this.#end(reader, reason),
    };
  }

  /** Sends heartbeats, and cuts off readers that have stalled. Called once a second. */
  tick(): void {
    const now = this.#now();
    for (const reader of this.#readers) {
      if (reader.end.waitingBytes === 0) reader.waitingSince = undefined;
      else reader.waitingSince ??= now;
      if (reader.waitingSince !== undefined && now - reader.waitingSince >= STALL_MS) {
        this.#cut(reader);
      } else if (now - reader.lastSent >= HEARTBEAT_MS) {
        this.#send(reader, this.#item(this.#published, { event: "heartbeat" }));
      }
    }
  }

  /** Ends all answers. */
  close(reason: string): void {
    for (const reader of this.#readers) this.#end(reader, reason);
  }

  #end(reader: Reader, reason: string): void {
    if (!this.#readers.delete(reader)) return;
    const { end } = reader;
    if (reader.waitingSince !== undefined) {
      // The last word would wait behind what the reader does not accept.
      end.cut();
      return;
    }
    end.send(this.#item(this.#published, { event: "end", reason }));
    end.end();
  }

  /** The only place that decides which reader gets an event. */
  #give(reader: Reader, item: Kept): void {
    if (reader.end.sees(item.segment)) this.#send(reader, item);
  }

  #send(reader: Reader, item: Item): void {
    if (!this.#readers.has(reader)) return;
    reader.end.send(item);
    reader.lastSent = this.#now();
    if (reader.end.waitingBytes > MAX_WAITING_BYTES) this.#cut(reader);
  }

  #cut(reader: Reader): void {
    this.#readers.delete(reader);
    this.#cutOff++;
    reader.end.cut();
  }

  #item(number: number, fields: Fields): Item {
    const id = `${this.#run}-${number}`;
    const whole = { id, time: new Date().toISOString(), ...fields };
    const json = JSON.stringify(whole, (_key, value: unknown) =>
      typeof value === "string" ? value.slice(0, MAX_TEXT_CHARS) : value,
    );
    return { event: fields.event, id, json };
  }
}
