/** Returns the path of a wrong value as text: `segments[0].port[2].rate`; "" for the whole value. */
export const placeOf = (path: readonly PropertyKey[]): string =>
  path
    .map((key) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`))
    .join("")
    .replace(/^\./, "");
