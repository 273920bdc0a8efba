/**
 * The device end of a link without a link: records what the bus posts, in order, and keeps the
 * windows as a device would. It refuses what no honest frontend posts, so that a test notices.
 */
import type { DeviceLink } from "../../frontend/bus/device-link.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import type { FaultSeverity } from "../../shared/wire/protocol.ts";
import type { Space } from "../../shared/wire/records.ts";

interface Fields {
  window: { address: number; length: number };
  endWindow: { address: number };
  write: { address: number; type: number; bytes: Uint8Array };
  push: { space: Space; address: number; type: number; bytes: Uint8Array };
  mmioWrite: { bar: number; offset: number; type: number; bytes: Uint8Array };
  mmioWrite32: { bar: number; offset: number; value: number };
  fault: { severity: number; code: string; text: string; space: number; address: number };
}
type Kind = keyof Fields;
type Of<K extends Kind> = { [P in K]: { kind: P } & Fields[P] }[K];
export type Posted = Of<Kind>;

export class FakeDeviceLink implements DeviceLink {
  readonly posted: Posted[] = [];
  /** The device's copy of each window, by address. */
  readonly windows = new Map<number, Uint8Array>();
  writable = true;
  readonly askForRoom = () => this.writable;
  flushes = 0;
  readonly writer: DeviceLink["writer"] = {
    column: (op, space, address, type, src, at, length) => {
      const bytes = slice(src, at, length);
      if (op === Op.WRITE) this.write(address, type, bytes);
      else if (op === Op.PUSH) {
        this.posted.push({ kind: "push", space: space as Space, address, type, bytes });
      } else this.posted.push({ kind: "mmioWrite", bar: space, offset: address, type, bytes });
    },
    mmioWrite32: (bar, offset, _type, value) => {
      this.posted.push({ kind: "mmioWrite32", bar, offset, value });
    },
  };

  /** Everything of one kind, oldest first. */
  of<K extends Kind>(kind: K): Of<K>[] {
    return this.posted.filter((p): p is Of<K> & Posted => p.kind === kind);
  }

  window(address: number, length: number): void {
    for (const [other, bytes] of this.windows) {
      if (address < other + bytes.length && other < address + length) {
        throw new Error(`window ${address} overlaps window ${other}`);
      }
    }
    this.windows.set(address, new Uint8Array(length));
    this.posted.push({ kind: "window", address, length });
  }

  endWindow(address: number): void {
    if (!this.windows.delete(address)) throw new Error(`endWindow of ${address}, which is none`);
    this.posted.push({ kind: "endWindow", address });
  }

  protected write(address: number, type: number, bytes: Uint8Array): void {
    const { length } = bytes;
    const holds = ([start, { length: size }]: [number, Uint8Array]): boolean =>
      address >= start && address + length <= start + size;
    const found = [...this.windows].find(holds);
    if (found === undefined) throw new Error(`write of ${length} bytes at ${address}: no window`);
    found[1].set(bytes, address - found[0]);
    this.posted.push({ kind: "write", address, type, bytes });
  }

  /** Registers read as zero. */
  mmioRead(_bar: number, _offset: number, length: number): Promise<Uint8Array> {
    return Promise.resolve(new Uint8Array(length));
  }

  fault(severity: FaultSeverity, code: string, text: string, space: number, address: number): void {
    this.posted.push({ kind: "fault", severity, code, text, space, address });
  }

  scheduleFlush(): void {
    this.flushes++;
  }

  mark(): void {}
}

/** The sender's buffer may change as soon as the call returns. */
function slice(src: Uint8Array, at: number, length: number): Uint8Array {
  if (length < 1 || at < 0 || at + length > src.length) {
    throw new Error(`a record of ${length} bytes at ${at} of a buffer of ${src.length}`);
  }
  return src.slice(at, at + length);
}
