/** Reading a device's page without trusting its shape: what is not there counts as nothing. */
import type { Snapshot } from "../../device/nic.ts";

type Value = Snapshot[string] | undefined;

export const text = (value: Value): string =>
  value === undefined || typeof value === "object" ? "" : String(value);

export const num = (value: Value): number => (typeof value === "number" ? value : 0);

export const record = (value: Value): Snapshot =>
  typeof value === "object" && !Array.isArray(value) ? value : {};

export const list = (value: Value): readonly Snapshot[] => (Array.isArray(value) ? value : []);
