/** `--device-option KEY=VALUE`: changes to the default behaviour of the device models. */
import type { AddHelpTextContext } from "commander";
import * as z from "zod";
import { ENA_OPTIONS, type EnaOptions } from "../device/ena/options.ts";
import type { OptionShape, OptionText } from "../device/option.ts";
import { XEN_OPTIONS, type XenOptions } from "../device/xen/options.ts";

export interface DeviceOptions {
  readonly ena: EnaOptions;
  readonly xen: XenOptions;
}

const MODELS: readonly (readonly [keyof DeviceOptions, string, OptionShape])[] = [
  ["ena", "ENA", ENA_OPTIONS],
  ["xen", "Xen", XEN_OPTIONS],
];
const KEYS = MODELS.flatMap(([, , shape]) => Object.keys(shape));

const textOf = (option: z.ZodType): OptionText => option.meta() as unknown as OptionText;

/** Returns the text that `--help` prints below the flags. */
export function deviceOptionsHelp({ command }: AddHelpTextContext): string {
  const rows = MODELS.flatMap(([, title, shape]) =>
    Object.entries(shape).map(([key, option]) => {
      const { values, description } = textOf(option);
      return [`${key}=${values.replaceAll(" or ", "|")}`, `${title}: ${description}`] as const;
    }),
  );
  const help = command.createHelp();
  help.prepareContext({});
  const width = Math.max(...rows.map(([what]) => what.length));
  const lines = rows.map(([what, text]) => help.formatItem(what, width, text, help));
  return `\nDevice options:\n${lines.join("\n")}\n`;
}

/** Values of the flag, by model. The message of an issue is printed behind the flag's name. */
export const deviceOptions = z.array(z.string()).transform((texts, context): DeviceOptions => {
  const found: Record<keyof DeviceOptions, Record<string, unknown>> = { ena: {}, xen: {} };
  const refuse = (message: string): never => {
    context.addIssue({ code: "custom", message });
    return z.NEVER;
  };
  for (const text of texts) {
    const at = text.indexOf("=");
    const key = text.slice(0, Math.max(at, 0));
    const model = MODELS.find(([, , shape]) => Object.hasOwn(shape, key));
    if (model === undefined) {
      return refuse(
        `takes KEY=VALUE, not ${JSON.stringify(text)}; the keys are ${KEYS.join(", ")}`,
      );
    }
    const [name, , shape] = model;
    const option = shape[key]!;
    const value = option.safeParse(text.slice(at + 1));
    if (!value.success) {
      return refuse(
        `${key} takes ${textOf(option).values}, not ${JSON.stringify(text.slice(at + 1))}; the keys are ${KEYS.join(", ")}`,
      );
    }
    if (Object.hasOwn(found[name], key)) return refuse(`${key} is given twice`);
    found[name][key] = value.data;
  }
  return found;
});
