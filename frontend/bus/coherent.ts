/**
 * Coherent memory (bus_dmamem_alloc(9)): a window with the same bytes on both sides of the link.
 *
 * The ring protocol decides which side writes a byte, one side at a time. The driver's changes stay
 * local until `publish`, which sends exactly the named bytes, in the order of the calls. Publish
 * the contents first, then the bytes that make them valid.
 */
import { Op } from "../../shared/wire/catalogue.ts";
import { type BusAddress, beyond, type RecordType, Space } from "../../shared/wire/records.ts";
import { DmaMisuse } from "./misuse.ts";
import type { DmaSpace } from "./space.ts";

export class CoherentMemory {
  /** Name for DmaMisuse and logs, for example `ena0 admin sq`. */
  readonly name: string;
  /** Bus address, below 2^32 because the generation of a window is 0. */
  readonly address: BusAddress;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #space: DmaSpace;
  #freed = false;

  /** Called by DmaSpace.allocCoherent. */
  constructor(space: DmaSpace, name: string, address: BusAddress, bytes: number) {
    this.#space = space;
    this.name = name;
    this.address = address;
    this.bytes = new Uint8Array(bytes);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Posts the current bytes [offset .. offset + length). Sends nothing without a link. */
  publish(offset: number, length: number, type: RecordType): void {
    if (this.#freed) {
      throw new DmaMisuse("COHERENT_FREED", `${this.name}: published after free`);
    }
    if (!(offset >= 0 && length >= 0 && offset + length <= this.bytes.length)) {
      const what = `${length} bytes at ${offset} of ${this.bytes.length}`;
      throw new DmaMisuse("PUBLISH_RANGE", `${this.name}: publish of ${what}`);
    }
    if (length === 0) return;
    const to = beyond(this.address, offset);
    this.#space.link?.writer.column(Op.WRITE, Space.BUS, to, type, this.bytes, offset, length);
  }

  /** Frees the memory, as bus_dmamem_free(9) does. */
  free(): void {
    if (this.#freed) throw new DmaMisuse("COHERENT_FREED", `${this.name}: freed twice`);
    this.#freed = true;
    this.#space.freeCoherent(this);
  }
}
