/**
 * The tags that one kind of request has used in a connection: none may come again, so that a reply
 * names one request and no other.
 *
 * Kept as ranges, because peers count. A peer that jumps about needs more of them, up to a limit.
 */
import { CloseCode, Limits, WireError } from "./transactions.ts";

export class UsedTags {
  readonly #what: string;
  /** Ranges [first, last], sorted, with at least one unused tag between two of them. */
  readonly #firsts: number[] = [];
  readonly #lasts: number[] = [];

  /** `what`: the request, for sentences. */
  constructor(what: string) {
    this.#what = what;
  }

  /** Throws WireError when `tag` was used before, or when there are too many gaps between tags. */
  add(tag: number): void {
    const i = this.#above(tag);
    if (i > 0 && tag <= this.#lasts[i - 1]!) {
      throw new WireError("WIRE_TAG", `${this.#what}: tag ${tag} was used before`);
    }
    const joinsBelow = i > 0 && this.#lasts[i - 1] === tag - 1;
    const joinsAbove = this.#firsts[i] === tag + 1;
    if (joinsBelow && joinsAbove) {
      this.#lasts[i - 1] = this.#lasts[i]!;
      this.#firsts.splice(i, 1);
      this.#lasts.splice(i, 1);
    } else if (joinsBelow) this.#lasts[i - 1] = tag;
    else if (joinsAbove) this.#firsts[i] = tag;
    else if (this.#firsts.length < Limits.TAG_RANGES) {
      this.#firsts.splice(i, 0, tag);
      this.#lasts.splice(i, 0, tag);
    } else {
      throw new WireError(
        "WIRE_TAG",
        `${this.#what}: tags with more than ${Limits.TAG_RANGES} gaps between them`,
        CloseCode.LIMIT,
      );
    }
  }

  /** Index of the first range that begins above `tag`. */
  #above(tag: number): number {
    let low = 0;
    let high = this.#firsts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#firsts[middle]! <= tag) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
