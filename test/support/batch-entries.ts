/** The ring entries of one type that a batch carries, found with the product's own decoder. */
import { applyBatch } from "../../shared/wire/decode.ts";
import { everyHandler } from "./recording-sink.ts";

export interface Entry {
  readonly type: number;
  readonly address: number;
  readonly view: DataView;
  /** Place in the batch, over all types. */
  readonly order: number;
}

export function entriesOf(batch: Uint8Array, wanted: number, size: number): Entry[] {
  const found: Entry[] = [];
  let order = 0;
  const sink = everyHandler(() => {});
  sink.write = ({ address, type, src, at, length }) => {
    order++;
    if (type !== wanted) return;
    for (let done = 0; done < length; done += size) {
      const view = new DataView(src.buffer, src.byteOffset + at + done, size);
      found.push({ type, address: address + done, view, order: order * 1e6 + done });
    }
  };
  applyBatch(batch, sink, sink);
  return found;
}
