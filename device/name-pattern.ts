/** Patterns for the names of NICs and ports, in which * stands for any letters. */
import * as z from "zod";

export const namePattern = z
  .string()
  .regex(/^[A-Za-z0-9._*-]{1,63}$/, "takes a name, with * for any letters");

/** Matches a pattern with * for any letters. The work is bounded by the product of the lengths. */
export function fits(text: string, name: string): boolean {
  let at = 0;
  let star = -1;
  let tried = 0;
  let i = 0;
  while (i < name.length) {
    if (text[at] === "*") {
      star = at++;
      tried = i;
    } else if (text[at] === name[i]) {
      at++;
      i++;
    } else if (star >= 0) {
      // The last star stands for one letter more.
      at = star + 1;
      i = ++tried;
    } else {
      return false;
    }
  }
  while (text[at] === "*") at++;
  return at === text.length;
}
