/**
 * The device end of a link, in the turn of the test. It decodes the transactions of bus and
 * hypervisor in order, and keeps windows and grants as a device does. It throws on a transaction
 * that no honest frontend posts.
 */
import { WindowTable } from "../../device/dma/window-table.ts";
import { SessionLink } from "../../frontend/session-link.ts";
import { silentLogger } from "../../shared/log.ts";
import { Link } from "../../shared/wire/link.ts";
import { busAddress } from "../../shared/wire/records.ts";
import { endsOf, type GrantEntry, grantsOf } from "./guest-grants.ts";
import { loopbackPair } from "./loopback.ts";
import { TestClock } from "./test-clock.ts";
import { type Act, actsOf } from "./wire-acts.ts";

const OWNER = { sink: {}, batchApplied() {}, writableAgain() {}, closed() {}, broken() {} };

export class FakeDeviceLink extends SessionLink {
  writable = true;
  flushes = 0;
  readonly #posted: Act[] = [];
  readonly #windows: WindowTable;
  readonly #grants = new Map<number, GrantEntry>();

  constructor() {
    const [front, back] = loopbackPair((deliver) => deliver());
    super(new Link(front, OWNER, silentLogger, undefined, new TestClock()));
    // A device limits the windows made per second, so each window gets a second of its own.
    let ms = 0;
    this.#windows = new WindowTable(() => (ms += 1000));
    back.onMessage = (bytes, at, length) => {
      for (const act of actsOf(bytes.subarray(at, at + length))) this.#hear(act);
    };
  }

  /** All transactions posted so far, oldest first. A test may empty the list. */
  get posted(): Act[] {
    this.mark(0);
    return this.#posted;
  }
  /** The device's copies of the windows. */
  get windows(): WindowTable {
    this.mark(0);
    return this.#windows;
  }
  /** Grant entries, as posted to the device. */
  get entries(): ReadonlyMap<number, GrantEntry> {
    this.mark(0);
    return this.#grants;
  }
  /** All transactions of one kind, oldest first. */
  of<K extends Act["kind"]>(kind: K): (Act & { readonly kind: K })[] {
    return this.posted.filter((act): act is Act & { readonly kind: K } => act.kind === kind);
  }
  /** The guest's transactions in order, one string each: `grant 3`, `end 2`, `event 5`, `write`. */
  get order(): string[] {
    return this.posted.flatMap((act) => {
      if (act.kind === "grant") return `grant ${grantsOf(act.records, act.version).length}`;
      if (act.kind === "end_grant") return `end ${endsOf(act.records).length}`;
      if (act.kind === "event") return `event ${act.port}`;
      return /^(write|xenstore|hypercall)$/.test(act.kind) ? act.kind : [];
    });
  }

  override askForRoom(): boolean {
    return this.writable;
  }
  override scheduleFlush(): void {
    this.flushes++;
  }
  /** Registers read as zero. */
  override async mmioRead(_bar: number, _offset: number, length: number): Promise<Uint8Array> {
    return new Uint8Array(length);
  }

  #hear(act: Act): void {
    this.#posted.push(act);
    if (act.kind === "window") this.#windows.add(busAddress(act.address), act.length);
    else if (act.kind === "end_window") this.#windows.remove(busAddress(act.address));
    else if (act.kind === "write") {
      const window = this.#windows.find(act.address, act.bytes.length);
      if (window === undefined) throw new Error(`a write at ${act.address}, where no window is`);
      window.bytes.set(act.bytes, act.address - window.address);
    } else if (act.kind === "grant") {
      for (const { reference, ...entry } of grantsOf(act.records, act.version)) {
        if (this.#grants.has(reference)) throw new Error(`grant of live reference ${reference}`);
        this.#grants.set(reference, entry);
      }
    } else if (act.kind === "end_grant") {
      for (const reference of endsOf(act.records)) {
        if (!this.#grants.delete(reference)) throw new Error(`end of ${reference}, which is none`);
      }
    } else if (act.kind === "hypercall") {
      this.hypercallReply({ tag: act.tag, errno: 0, bytes: new Uint8Array(0) });
    }
  }
}
