/**
 * The tags that one kind of request has used in a connection. No tag may be used twice, so a reply
 * names exactly one request.
 *
 * The tags are kept as ranges, because most peers count. A peer with gaps between its tags needs
 * more ranges, up to a limit.
 */
import { CloseCode, Limits, WireError } from "./protocol.ts";

export class UsedTags {
  readonly #what: string;
  /** Ranges [first, last], sorted, with at least one unused tag between two of them. */
  readonly #firsts: number[] = [];
  readonly #lasts: number[] = [];

  /** `what`: name of the request, for error texts. */
  constructor(what: string) {
    this.#what = what;
  }

  /** Adds `tag`. Throws WireError when it was used before, or when the tags have too many gaps. */
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

  /** Returns the index of the first range that begins above `tag`. */
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
