/**
 * The shape of a lab file. Keys of `[device]`, `[[nic]]` and `[[capture]]` are the flags of
 * `ringwire device`, `frontend` and `capture`, and are checked by the same code. Keys of
 * `[[segment]]` are the options of segments. Editors get all of it as a JSON Schema.
 */
import type { Command, Option } from "commander";
import * as z from "zod";
import { deviceSegments, segmentName } from "../../device/segments/options.ts";
import { CaptureShape, captureCommand } from "../capture/capture.ts";
import { fileFlags, nicName, target } from "../common/options.ts";
import { kebab } from "../config/keys.ts";
import { DeviceShape, deviceCommand } from "../device.ts";
import { FrontendShape, frontendCommand } from "../frontend.ts";
import { parseCidr, parseRoute } from "./address.ts";

const MAX_HOSTS = 64;
/** Most `[[nic]]` entries, and most NICs of one entry. */
const MAX_NICS = 1024;
const MAX_CAPTURES = 64;
const MAX_ADDRESSES = 64;
/** Longest part of a wrong value that a message repeats. */
const MAX_VALUE_CHARS = 60;
/** Flags that a lab sets, and its file can't. */
const OWN = ["json"];
/** A NIC of a lab always waits for its device. */
const WAITS = [...OWN, "wait"];

type Shapes = Record<string, z.ZodType>;

/** Shapes of a command's flags, by their keys in a file. */
function flagShapes(command: Command, fields: Shapes, without: readonly string[]): Shapes {
  const flags = fileFlags(command).filter(({ name }) => !without.includes(name));
  return Object.fromEntries(
    flags.map(({ name, option }) => {
      const field = fields[option.attributeName()]!;
      return [name, flagShape(option, field).optional()];
    }),
  );
}

function flagShape(option: Option, field: z.ZodType): z.ZodType {
  const { description } = option;
  if (!option.required && !option.optional) return z.boolean().meta({ description });
  const json = { ...inputOf(field), description };
  if (!option.variadic)
    return scalar(field)
      .pipe(field as z.ZodType<unknown, string>)
      .meta(json);
  const items = { type: "string" } as const;
  return z
    .array(scalar(z.string()))
    .pipe(field as z.ZodType<unknown, string[]>)
    .meta({ type: "array", items, description });
}

/** A text or a number as the text of the command line. `field` says what else it takes. */
function scalar(field: z.ZodType) {
  return z.unknown().transform((value, context): string => {
    if (typeof value === "string" || Number.isFinite(value)) return String(value);
    if (value === undefined) {
      context.addIssue({ code: "custom", message: "is needed" });
      return z.NEVER;
    }
    const [issue] =
      field.safeParse(JSON.stringify(value).slice(0, MAX_VALUE_CHARS)).error?.issues ?? [];
    context.addIssue({ code: "custom", message: issue?.message ?? "takes a text" });
    return z.NEVER;
  });
}

/** The JSON Schema of what a flag accepts. */
function inputOf(field: z.ZodType): object {
  const {
    $schema,
    default: _,
    ...json
  } = z.toJSONSchema(field, {
    io: "input",
    unrepresentable: "any",
  });
  return json;
}

/** A text that `parse` accepts; else it returns the sentence of the mistake. */
const parsedBy = (parse: (text: string) => object | string) =>
  z.string().superRefine((text, context) => {
    const message = parse(text);
    if (typeof message === "string") context.addIssue({ code: "custom", message });
  });

const hostName = segmentName.meta({ description: "name of a [[host]]" });
const described = <T extends z.ZodType>(shape: T, description: string): T =>
  shape.meta({ description }) as T;

const device = flagShapes(deviceCommand(), DeviceShape, OWN);
const frontend = flagShapes(frontendCommand(), FrontendShape, WAITS);
const capture = flagShapes(captureCommand(), CaptureShape, [...WAITS, "print", "no-time"]);
const nameOption = frontendCommand().options.find(({ long }) => long === "--name")!;

frontend["tap"] = described(
  z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$/, "takes 1 to 15 letters, digits and . _ -")
    .optional(),
  "TAP interface through which the kernel uses the NIC",
);
const TOKEN = "the token to show to the device, as @FILE; a secret does not belong in this file";
const token = z.string().regex(/^@./, "takes @FILE: a secret does not belong in this file");
for (const shapes of [frontend, capture]) shapes["token"] = described(token.optional(), TOKEN);

export const nicShape = z.strictObject({
  host: described(hostName.optional(), "the host on which the NIC runs"),
  segment: described(segmentName.optional(), "the segment of the NIC (the first)"),
  count: described(
    z.number().int().min(1).max(MAX_NICS).optional(),
    "makes so many NICs of this entry; {n} in a text is 1, 2, 3 ..., {nn} is 01, 02 ..., {n+10} is 11, 12 ...",
  ),
  addresses: described(
    z.array(parsedBy(parseCidr)).max(MAX_ADDRESSES).optional(),
    "IP addresses of the TAP, with prefix length; needs root",
  ),
  routes: described(
    z.array(parsedBy(parseRoute)).max(MAX_ADDRESSES).optional(),
    'routes over the TAP, as "default via 10.0.0.254"; needs root',
  ),
  ...frontend,
  name: flagShape(nameOption, nicName),
});

export const captureShape = z.strictObject({
  host: described(hostName.optional(), "the host on which the capture runs"),
  ...capture,
  write: z.string().min(1).meta({ description: "the pcapng file" }),
});

export const labShape = z.strictObject({
  name: described(
    segmentName.optional(),
    "name of the lab, one of a kind on a host (the name of the file without .toml)",
  ),
  host: described(
    z
      .array(
        z.strictObject({
          name: segmentName.meta({ description: "name of the host; lab up --host NAME" }),
          connect: z
            .string()
            .pipe(target)
            .optional()
            .meta({ type: "string", description: "how this host reaches the device" }),
        }),
      )
      .max(MAX_HOSTS)
      .optional(),
    "the hosts of the lab; without any, all of it belongs to this host",
  ),
  device: z
    .strictObject({
      host: described(hostName.optional(), "the host on which the device runs"),
      ...device,
    })
    .optional()
    .meta({ description: "the device: the flags of ringwire device" }),
  segment: described(deviceSegments.optional(), "an Ethernet segment of the device"),
  frontend: described(
    z.strictObject(without(frontend, "name")).optional(),
    "flags of ringwire frontend for every NIC that does not set them itself",
  ),
  nic: described(
    z.array(nicShape).max(MAX_NICS).optional(),
    "a NIC: the flags of ringwire frontend, and its place",
  ),
  capture: described(
    z.array(captureShape).max(MAX_CAPTURES).optional(),
    "a capture to a file: the flags of ringwire capture",
  ),
});

function without(shapes: Shapes, key: string): Shapes {
  return Object.fromEntries(Object.entries(shapes).filter(([name]) => name !== key));
}

type JsonSchema = {
  properties?: Record<string, JsonSchema>;
  items?: JsonSchema;
  anyOf?: JsonSchema[];
};

/** Returns the JSON Schema of a lab file, as the text of a file. */
export function labJsonSchema(): string {
  const schema = z.toJSONSchema(labShape, {
    io: "input",
    unrepresentable: "any",
    override: ({ jsonSchema }) => {
      const { properties, required } = jsonSchema;
      // Texts of a class have {n} in them.
      for (const key of ["tap", "netns"]) {
        const property = properties?.[key];
        if (typeof property === "object") delete property.pattern;
      }
      if (properties !== undefined) {
        const named = Object.entries(properties).map(([key, value]) => [kebab(key), value]);
        jsonSchema.properties = Object.fromEntries(named);
      }
      if (required !== undefined) jsonSchema.required = required.map(kebab);
    },
  }) as JsonSchema & Record<string, unknown>;
  const head = { $schema: schema["$schema"], title: "A lab of ringwire" };
  return `${JSON.stringify({ ...head, ...schema }, null, 2)}\n`;
}
