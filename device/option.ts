/**
 * Options of the device models that a person can set by name (`ringwire device --device-option`).
 * Each is a schema from text to value; its metadata says which values it accepts and what it
 * changes, so that checks, help text and types have one source.
 */
import { z } from "zod";

/** What the metadata of every option holds. */
export interface OptionText {
  /** The values, as a person writes them. */
  readonly values: string;
  /** What the option changes; a default stands in brackets at the end. */
  readonly description: string;
}

export type OptionShape = Readonly<Record<string, z.ZodType<unknown, string>>>;
/** The values of a shape's options; each may be absent. */
export type OptionValues<S extends OptionShape> = {
  readonly [K in keyof S]?: z.output<S[K]> | undefined;
};

export const yesOrNo = (description: string) =>
  z
    .stringbool({ truthy: ["true"], falsy: ["false"], case: "sensitive" })
    .meta({ values: "true or false", description } satisfies OptionText);

export const oneWord = <const W extends readonly [string, ...string[]]>(
  words: W,
  description: string,
) => z.enum(words).meta({ values: words.join(" or "), description } satisfies OptionText);

/** A whole number in decimal, at most 9 digits. */
export const wholeNumber = (min: number, max: number, description: string) =>
  z
    .string()
    .regex(/^\d{1,9}$/)
    .transform(Number)
    .pipe(z.number().min(min).max(max))
    .meta({ values: `${min} to ${max}`, description } satisfies OptionText);
