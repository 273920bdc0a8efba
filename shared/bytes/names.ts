/**
 * Numbers to names, for traces, errors and the inspector. Never on the data path.
 *
 * A table is a const object of numbers with a type of the same name; its keys
 * are the words of the original headers without their prefix.
 */
export type Codes = Readonly<Record<string, number>>;

/** `nameOf(Opcode, 8)` returns "GET_FEATURE". A number without a name gives "?77". */
export function nameOf(codes: Codes, value: number): string {
  for (const [name, code] of Object.entries(codes)) if (code === value) return name;
  return `?${value}`;
}

/** The names of the bits set in `value`, joined: "READY|RESET_IN_PROGRESS"; "0" when none is. */
export function namesOf(masks: Codes, value: number): string {
  const found: string[] = [];
  let rest = value >>> 0;
  for (const [name, mask] of Object.entries(masks)) {
    if ((rest & mask) >>> 0 === mask) {
      found.push(name);
      rest = (rest & ~mask) >>> 0;
    }
  }
  if (rest !== 0) found.push(`0x${rest.toString(16)}`);
  return found.length === 0 ? "0" : found.join("|");
}
