/**
 * Options of the device models that a user can set by name (`ringwire device --device-option`).
 * Each option is a schema from text to value. Its metadata describes the accepted values and the
 * effect of the option, so checks, help text and types have one source.
 */
import * as z from "zod";

/** Metadata of an option. */
export interface OptionText {
  /** Accepted values, as a user writes them. */
  readonly values: string;
  /** Effect of the option. A default stands in brackets at the end. */
  readonly description: string;
}

export type OptionShape = Readonly<Record<string, z.ZodType<unknown, string>>>;
/** Values of a shape's options. Each may be absent. */
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
