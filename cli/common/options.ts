/**
 * Typed options of a command. A flag overrides the environment (RINGWIRE_ and the flag's name), the
 * environment overrides the file of --config, and the file overrides the default.
 *
 * The file is JSON with one section for each command. Its keys are the names of the flags:
 *   { "device": { "listen": "0.0.0.0:7700", "insecure": true, "uplink": ["tap:lab0"] } }
 */
import { readFileSync } from "node:fs";
import { type Command, Option } from "commander";
import * as z from "zod";
import { parseUnicastMac } from "../../shared/net/ethernet.ts";
import {
  DEFAULT_DEVICE,
  DEVICE_PORT,
  httpUrl,
  parseHostPort,
} from "../../shared/transport/address.ts";
import {
  DEAD_AFTER_TAKES,
  type DeadAfter,
  MAX_DEAD_AFTER,
  MIN_DEAD_AFTER,
} from "../../shared/wire/dead-after.ts";
import { isReservedName, RESERVED_REASON } from "../../shared/wire/hello.ts";
import { variableOf } from "./environment.ts";
import { Failure, messageOf, wrong } from "./failure.ts";
import { LOG_LEVELS, type LogForm, type LogLevel } from "./log.ts";
import { similar } from "./similar.ts";

type Raw = string | boolean | string[];

/** Flags that are read before or apart from the layers. */
const APART = new Set(["help", "version", "config", "log"]);

/**
 * Completes a command: adds the flags that every command has, and the examples of its help. `run`
 * gets the options, checked by `shape`, and the operands.
 */
export function completed<T>(
  command: Command,
  examples: string,
  shape: z.ZodType<T>,
  run: (options: T, ...operands: string[]) => Promise<void>,
): Command {
  return addCommonFlags(command)
    .addHelpText("before", examples)
    .action(async () => run(readOptions(command, shape), ...command.args));
}

/** Adds the flags that every command has. */
export function addCommonFlags(command: Command): Command {
  return command
    .option("--json", "print results as JSON on stdout, one object a line")
    .option("--config <file>", 'read options from a file: {"COMMAND": {"FLAG": VALUE}}')
    .addOption(new Option("-v, --verbose", "log more").conflicts("quiet"))
    .option("-q, --quiet", "log only warnings and errors")
    .option("--log <text|json>", "form of the log on stderr (text)");
}

/** Adds the flags of every command that connects to a device. */
export function addConnectFlag(command: Command): Command {
  return command
    .option(
      "--connect <device>",
      `the device: HOST, HOST:PORT, or a ws, wss, http or https URL (${DEFAULT_DEVICE})`,
    )
    .option("--ca <file>", "PEM file of the certificate that issued the device's (those of Node)")
    .option("--cert <file>", "PEM file of the certificate to show to the device")
    .option("--key <file>", "PEM file of the key of --cert")
    .option(
      "--token <token|@file>",
      "token to show to the device; others of this machine can't read it in a file or in RINGWIRE_TOKEN",
    );
}

/** Adds the flag of every command that can wait for its device. */
export function addWaitFlag(command: Command): Command {
  return command.option("--wait", "if no device listens yet, wait for one instead of failing");
}

/**
 * Returns the options of `command`, checked by `shape`. Throws Failure (wrong usage), which names
 * the flag and the source of its value.
 */
export function readOptions<T>(
  command: Command,
  shape: z.ZodType<T>,
  env: NodeJS.ProcessEnv = process.env,
): T {
  const raw: Record<string, Raw> = {};
  const origin = new Map<string, string>();
  const flags = command.options;
  const section = configSection(command, flags, env);
  for (const option of flags) {
    const name = (option.long ?? "").replace(/^--/, "");
    const key = option.attributeName();
    const variable = variableOf(name);
    const given = command.getOptionValueSource(key) === "cli";
    const fromEnv = env[variable];
    let value: unknown;
    if (given) {
      value = command.getOptionValue(key);
    } else if (APART.has(name)) {
      continue;
    } else if (fromEnv !== undefined && fromEnv !== "") {
      value = fromLayer(option, fromEnv, variable);
      origin.set(key, ` (from ${variable})`);
    } else if (name in section) {
      value = fromLayer(option, section[name], `"${name}" in the config file`);
      origin.set(key, " (from the config file)");
    }
    if (value !== undefined) raw[key] = value as Raw;
  }
  const parsed = shape.safeParse(raw);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const key = String(issue.path[0] ?? "");
  const option = flags.find((o) => o.attributeName() === key);
  if (issue.code === "invalid_type" && raw[key] === undefined) {
    throw wrong(`${option?.long ?? key} is needed: ${option?.description ?? ""}`);
  }
  throw wrong(`${option?.long ?? key} ${issue.message}${origin.get(key) ?? ""}`);
}

const isYes = (word: string): boolean => ["true", "1", "yes", "on"].includes(word.toLowerCase());

/**
 * Returns true when any layer requests results as JSON. For a command with wrong options, or an
 * unknown command (undefined), only the environment counts.
 */
export function asksForJson(
  command: Command | undefined,
  env: NodeJS.ProcessEnv = process.env,
): boolean {
  try {
    if (command !== undefined) return readOptions(command, z.object(JsonShape), env).json;
  } catch (error) {
    // The command itself reports wrong options later.
    if (!(error instanceof Failure)) throw error;
  }
  return isYes(env[variableOf("json")] ?? "");
}

/** Converts a value of the environment or the file to the form of the command line. */
function fromLayer(option: Option, value: unknown, where: string): Raw {
  const word = String(value).toLowerCase();
  // For a flag with an optional value, true means the flag without a value.
  if (option.optional && word === "true") return true;
  if (!option.required && !option.optional) {
    const yes = isYes(word);
    if (!yes && !["false", "0", "no", "off"].includes(word)) {
      throw wrong(`${where} is ${JSON.stringify(value)}; it can be true or false`);
    }
    return option.negate ? !yes : yes;
  }
  if (option.variadic || Array.isArray(option.defaultValue)) {
    return Array.isArray(value) ? value.map(String) : String(value).split(",");
  }
  if (typeof value === "object") throw wrong(`${where} is no single value`);
  return String(value);
}

const ConfigFile = z.record(
  z.string(),
  z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.array(z.string())])),
);

function configSection(
  command: Command,
  flags: readonly Option[],
  env: NodeJS.ProcessEnv,
): Readonly<Record<string, unknown>> {
  const path = command.getOptionValue("config") ?? env["RINGWIRE_CONFIG"];
  if (typeof path !== "string" || path === "") return {};
  let value: unknown;
  try {
    // Editors of Windows write a byte order mark at the start.
    value = JSON.parse(readFileSync(path, "utf8").replace(/^\uFEFF/, ""));
  } catch (error) {
    throw wrong(`the config file ${path} can't be used: ${messageOf(error)}`);
  }
  const file = ConfigFile.safeParse(value);
  if (!file.success) {
    const at = file.error.issues[0]!.path.join(".");
    throw wrong(
      `the config file ${path} is not of the form {"command": {"flag": value}}${at && `: look at ${at}`}`,
    );
  }
  const commands = command.parent?.commands.map((other) => other.name());
  for (const name of Object.keys(file.data)) {
    if (commands?.includes(name) === false) {
      const meant = suggestion(similar(name, commands));
      throw wrong(
        `the config file ${path} has a section "${name}", and there is no such command${meant}`,
      );
    }
  }
  const section = file.data[command.name()] ?? {};
  const names = flags.map((option) => option.long?.slice(2) ?? "");
  const known = names.filter((name) => !APART.has(name));
  for (const name of Object.keys(section)) {
    if (!known.includes(name)) {
      const meant = suggestion(similar(name, known));
      throw wrong(
        `the config file ${path} sets "${name}", which ${command.name()} does not know${meant}`,
      );
    }
  }
  return section;
}

const suggestion = (word: string): string => (word === "" ? "" : ` (Did you mean ${word}?)`);

/** Returns level and form of the log. Flags override RINGWIRE_LOG ("debug,json" or one of them). */
export function logOptions(
  options: {
    readonly verbose: boolean;
    readonly quiet: boolean;
    readonly log?: LogForm | undefined;
  },
  env: NodeJS.ProcessEnv = process.env,
): { level: LogLevel; form: LogForm } {
  let level: LogLevel = "info";
  let form: LogForm = "text";
  for (const word of (env["RINGWIRE_LOG"] ?? "").split(",").filter((w) => w !== "")) {
    const known = LOG_LEVELS.find((name) => name === word);
    if (known !== undefined) level = known;
    else if (word === "json" || word === "text") form = word;
    else throw wrong(`RINGWIRE_LOG is "${word}"; it can be text, json, ${LOG_LEVELS.join(", ")}`);
  }
  if (options.verbose) level = "debug";
  if (options.quiet) level = "warn";
  return { level, form: options.log ?? form };
}

// Values. The message of each says what the flag accepts, and is printed behind the flag's name.

/** A whole decimal number from `min` to `max`. */
export const whole = (min: number, max: number) =>
  checked((text) => {
    const n = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
    return n >= min && n <= max ? n : undefined;
  }, `takes a whole number from ${min} to ${max}`);

/** Seconds of silence after which a peer counts as dead, or "off". */
export const deadAfter = () =>
  checked((text): DeadAfter | undefined => {
    if (text === "off") return text;
    const n = /^\d{1,4}$/.test(text) ? Number(text) : 0;
    return n >= MIN_DEAD_AFTER && n <= MAX_DEAD_AFTER ? n : undefined;
  }, DEAD_AFTER_TAKES);

/** Powers of ten by the suffix of an amount. */
const POWER_OF: Readonly<Record<string, number>> = { k: 3, m: 6, g: 9 };

/** An amount that may be large: 1000000, 1e6, 1M or 1.5k. */
export const amount = checked((text) => {
  const match = /^(\d{1,16}(?:\.\d{1,9})?)(?:e(\d{1,2})|([kmg]))?$/i.exec(text);
  if (match === null) return undefined;
  const [, digits, exponent, letter] = match;
  const power = exponent ?? POWER_OF[letter?.toLowerCase() ?? ""] ?? 0;
  const n = Number(`${digits}e${power}`);
  return Number.isSafeInteger(n) ? n : undefined;
}, `takes a whole number from 0 to ${Number.MAX_SAFE_INTEGER}, also as 1e6, 5k, 1M or 2G`);

const isWord = (text: string): boolean => /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(text);

/** A word that is safe in logs, metrics and file names. */
export const word = checked(
  (text) => (isWord(text) ? text : undefined),
  "takes 1 to 63 letters, digits and . _ -, beginning with a letter or digit",
);

/** A NIC's name that `hello` accepts. */
export const nicName = word.refine((text) => !isReservedName(text), {
  error: ({ input }) => `takes no reserved name: "${String(input)}" ${RESERVED_REASON}`,
});

export const unicastMac = parsed("a unicast MAC", (text) => {
  parseUnicastMac(text);
  return text;
});

/** The place of a device, as written. The code that connects turns the text into a URL. */
export const target = parsed("an address", (text) => {
  httpUrl(text, "/");
  return text;
});

/** The place to listen: HOST:PORT, or HOST for the default port. Port 0 is any free port. */
export const hostPort = parsed("HOST:PORT or HOST", (text) => {
  const { host, port = DEVICE_PORT } = parseHostPort(text);
  return { host, port };
});

/** A text that `parse` accepts. Its error is printed behind `takes`. */
export function parsed<T>(takes: string, parse: (text: string) => T) {
  return z.string().transform((text, context): T => {
    try {
      return parse(text);
    } catch (error) {
      context.addIssue({ code: "custom", message: `takes ${takes}: ${messageOf(error)}` });
      return z.NEVER;
    }
  });
}

/** A text for which `parse` returns a value. `takes` says what the flag accepts. */
export function checked<T>(parse: (text: string) => T | undefined, takes: string) {
  return z.string().transform((text, context): T => {
    const value = parse(text);
    if (value !== undefined) return value;
    context.addIssue({ code: "custom", message: `${takes}, not ${JSON.stringify(text)}` });
    return z.NEVER;
  });
}

/** One of a few words. */
export function oneOf<const W extends string>(...words: readonly W[]) {
  return checked(
    (text) => words.find((word) => word === text),
    `takes ${words.slice(0, -1).join(", ")} or ${words.at(-1)}`,
  );
}

/** Values of the flags of addConnectFlag. */
export const ConnectShape = {
  connect: target.default(DEFAULT_DEVICE),
  ca: z.string().min(1).optional(),
  cert: z.string().min(1).optional(),
  key: z.string().min(1).optional(),
  token: z.string().min(1).optional(),
};

/** A device, the files of what this command shows to it, and a token or @FILE. */
export type Reach = z.infer<z.ZodObject<typeof ConnectShape>>;

/** Value of the flag of addWaitFlag. */
export const WaitShape = { wait: z.boolean().default(false) };

const JsonShape = { json: z.boolean().default(false) };

/** Values of the flags of addCommonFlags. */
export const CommonShape = {
  ...JsonShape,
  verbose: z.boolean().default(false),
  quiet: z.boolean().default(false),
  log: oneOf("text", "json").optional(),
};
