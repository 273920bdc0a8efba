/** A bounded queue of mbufs (mbq). It is a ring, so that no packet needs an allocation. */
import type { Mbuf } from "../net/mbuf.ts";

export class MbufQueue {
  readonly #items: (Mbuf | undefined)[];
  #first = 0;
  length = 0;

  constructor(limit: number) {
    this.#items = new Array<Mbuf | undefined>(limit).fill(undefined);
  }

  /** Adds `m`. When the queue is full it returns false, and the caller keeps `m`. */
  push(m: Mbuf): boolean {
    if (this.length === this.#items.length) return false;
    this.#items[(this.#first + this.length) % this.#items.length] = m;
    this.length++;
    return true;
  }

  peek(): Mbuf | undefined {
    return this.length === 0 ? undefined : this.#items[this.#first];
  }

  shift(): Mbuf | undefined {
    if (this.length === 0) return undefined;
    const m = this.#items[this.#first];
    this.#items[this.#first] = undefined;
    this.#first = (this.#first + 1) % this.#items.length;
    this.length--;
    return m;
  }

  /** Frees all mbufs in the queue. */
  purge(): void {
    for (let m = this.shift(); m !== undefined; m = this.shift()) m.free();
  }
}
