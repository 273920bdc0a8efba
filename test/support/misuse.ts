import { expect } from "vitest";
import { DmaMisuse } from "../../frontend/bus/misuse.ts";
import { GrantMisuse } from "../../frontend/xen/grant-references.ts";

/** The code of the misuse that `act` throws. Its text must contain `naming`. */
export function misuse(act: () => unknown, naming = ""): string {
  try {
    act();
  } catch (error) {
    if (!(error instanceof DmaMisuse || error instanceof GrantMisuse)) throw error;
    expect(error.message).toContain(naming);
    return error.code;
  }
  return "nothing thrown";
}
