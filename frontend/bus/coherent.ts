/**
 * Coherent memory: a window, the same bytes on both sides of the link. bus_dmamem_alloc(9).
 *
 * Writer of each byte: whoever the ring protocol says, one side at a time. What the driver writes
 * stays its own until `publish`, which sends exactly the bytes named, in the order of the calls:
 * contents first, then whatever makes them valid.
 */
import type { RecordType } from "../../shared/wire/records.ts";
import { DmaMisuse } from "./misuse.ts";
import type { DmaSpace } from "./space.ts";

export class CoherentMemory {
  /** For DmaMisuse and logs: `ena0 admin sq`. */
  readonly name: string;
  /** Bus address, below 2^32: generation 0. */
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #space: DmaSpace;
  #freed = false;

  /** Through DmaSpace.allocCoherent. */
  constructor(space: DmaSpace, name: string, address: number, bytes: number) {
    this.#space = space;
    this.name = name;
    this.address = address;
    this.bytes = new Uint8Array(bytes);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Posts bytes [offset .. offset + length) as they are now. Nothing is sent without a link. */
  publish(offset: number, length: number, type: RecordType): void {
    if (this.#freed) {
      throw new DmaMisuse("COHERENT_FREED", `${this.name}: published after free`);
    }
    if (!(offset >= 0 && length >= 0 && offset + length <= this.bytes.length)) {
      const what = `${length} bytes at ${offset} of ${this.bytes.length}`;
      throw new DmaMisuse("PUBLISH_RANGE", `${this.name}: publish of ${what}`);
    }
    if (length === 0) return;
    this.#space.link?.write(this.address + offset, type, this.bytes, offset, length);
  }

  /** bus_dmamem_free(9). */
  free(): void {
    if (this.#freed) throw new DmaMisuse("COHERENT_FREED", `${this.name}: freed twice`);
    this.#freed = true;
    this.#space.freeCoherent(this);
  }
}
