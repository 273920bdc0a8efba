/** A Sink for both directions that writes down what it is told, with its own copy of the bytes. */
import type { LinkControl, Sink } from "../../shared/wire/transactions.ts";

export type Told = readonly [name: string, ...fields: unknown[]];

const bytesOf = (view: DataView, at: number, length: number): number[] => [
  ...new Uint8Array(view.buffer, view.byteOffset + at, length),
];

export class RecordingSink implements Required<Sink>, LinkControl {
  readonly told: Told[] = [];

  hello = (value: unknown) => this.#note("hello", value);
  welcome = (value: unknown) => this.#note("welcome", value);
  refuse = (code: string, text: string) => this.#note("refuse", code, text);
  heartbeat = (sent: number, echo: number) => this.#note("heartbeat", sent, echo);
  progress = (bytes: number) => this.#note("progress", bytes);
  fault = (severity: number, code: string, text: string, space: number, address: number) =>
    this.#note("fault", severity, code, text, space, address);
  window = (address: number, length: number) => this.#note("window", address, length);
  endWindow = (address: number) => this.#note("endWindow", address);
  read = (tag: number, space: number, address: number, length: number) =>
    this.#note("read", tag, space, address, length);
  mmioRead = (tag: number, bar: number, offset: number, length: number) =>
    this.#note("mmioRead", tag, bar, offset, length);
  move = (url: string) => this.#note("move", url);
  grant = (version: number, view: DataView, at: number, count: number) =>
    this.#note("grant", version, bytesOf(view, at, count * (version === 1 ? 12 : 20)));
  endGrant = (view: DataView, at: number, count: number) =>
    this.#note("endGrant", bytesOf(view, at, count * 4));
  grantUse = (view: DataView, at: number, count: number) =>
    this.#note("grantUse", bytesOf(view, at, count * 8));
  hypercall = (
    tag: number,
    number: number,
    command: number,
    src: Uint8Array,
    at: number,
    length: number,
  ) => this.#note("hypercall", tag, number, command, [...src.subarray(at, at + length)]);
  hypercallReply = (tag: number, errno: number, src: Uint8Array, at: number, length: number) =>
    this.#note("hypercallReply", tag, errno, [...src.subarray(at, at + length)]);
  event = (port: number) => this.#note("event", port);
  xenstore = (src: Uint8Array, at: number, length: number) =>
    this.#note("xenstore", [...src.subarray(at, at + length)]);
  interrupt = (vector: number) => this.#note("interrupt", vector);

  write = (
    space: number,
    address: number,
    type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ) => this.#note("write", space, address, type, [...src.subarray(at, at + length)]);
  push = (
    space: number,
    address: number,
    type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ) => this.#note("push", space, address, type, [...src.subarray(at, at + length)]);
  mmioWrite = (
    bar: number,
    offset: number,
    type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ) => this.#note("mmioWrite", bar, offset, type, [...src.subarray(at, at + length)]);
  readReply = (tag: number, status: number, src: Uint8Array, at: number, length: number) =>
    this.#note("readReply", tag, status, [...src.subarray(at, at + length)]);
  mmioReadReply = (tag: number, src: Uint8Array, at: number, length: number) =>
    this.#note("mmioReadReply", tag, [...src.subarray(at, at + length)]);

  #note(name: string, ...fields: unknown[]): void {
    this.told.push([name, ...fields]);
  }
}
