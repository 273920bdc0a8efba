/**
 * `ringwire extcap`: answers Wireshark's calls to a program in its extcap folder. Users call
 * `ringwire capture` instead. Wireshark calls this command several times for each interface
 * whenever it starts. So the command parses its few arguments itself, and loads only the modules
 * that a question needs. An answer takes a fifth of the time for loading the whole command line.
 *
 *   --extcap-interfaces                               the list
 *   --extcap-interface I --extcap-dlts                link types
 *   --extcap-interface I --extcap-config              fields of the dialog, [--extcap-reload-option nic]
 *   --extcap-interface I --extcap-capture-filter F    is the filter good?
 *   --extcap-interface I --capture --fifo P [...]     packets
 *
 * Exit code: 0 done, 1 failed, 2 wrong arguments or an interface that is not of ringwire. For a bad
 * filter the first line of the answer says why, and the exit code is 0.
 */
import { DEFAULT_DEVICE } from "../../shared/transport/address.ts";
import { ExitCode, Failure, wrong } from "../common/failure.ts";
import { VERSION } from "../common/version.ts";
import {
  configSentences,
  dltSentences,
  type ExtcapInterface,
  interfaceSentences,
  MAX_COUNT,
  MAX_SNAP,
  nicSentences,
  parseInterfaceName,
} from "./extcap-sentences.ts";

const HELP_URL = new URL("./plugin/README.md", import.meta.url).href;

const FLAGS = [
  "--extcap-interfaces",
  "--extcap-dlts",
  "--extcap-config",
  "--extcap-cleanup-postkill",
  "--capture",
  "--ring",
  "--help",
] as const;
const VALUES = [
  "--extcap-interface",
  "--extcap-version",
  "--extcap-reload-option",
  "--extcap-config-option-name",
  "--extcap-config-option-value",
  "--extcap-capture-filter",
  // Pipes of a toolbar, which this program does not have.
  "--extcap-control-in",
  "--extcap-control-out",
  "--fifo",
  "--device",
  "--nic",
  "--snap",
  "--count",
] as const;
type Flag = (typeof FLAGS)[number];
type Value = (typeof VALUES)[number];

interface Arguments {
  readonly flags: ReadonlySet<Flag>;
  readonly values: ReadonlyMap<Value, string>;
}

/** Answers the arguments behind `ringwire extcap`, and sets process.exitCode. */
export async function extcap(args: readonly string[]): Promise<void> {
  try {
    await answer(parse(args));
    process.exitCode = ExitCode.DONE;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    process.stderr.write(`ringwire: ${error.message}\n`);
    process.exitCode = error.exitCode;
  }
}

function parse(args: readonly string[]): Arguments {
  const flags = new Set<Flag>();
  const values = new Map<Value, string>();
  for (let i = 0; i < args.length; i++) {
    const [, name = "", inline] = /^([^=]*)(?:=(.*))?$/s.exec(args[i]!) ?? [];
    const flag = FLAGS.find((known) => known === name);
    const value = VALUES.find((known) => known === name);
    if (flag !== undefined) {
      flags.add(flag);
    } else if (value !== undefined) {
      const text = inline ?? args[++i];
      if (text === undefined) throw wrong(`${name} needs a value`);
      values.set(value, text);
    } else {
      throw wrong(`"${args[i]}" is no argument of ringwire extcap`);
    }
  }
  return { flags, values };
}

async function answer({ flags, values }: Arguments): Promise<void> {
  if (flags.has("--help")) {
    say(HELP);
  } else if (flags.has("--extcap-interfaces")) {
    const { askDevices } = await import("./extcap-devices.ts");
    say(interfaceSentences(VERSION, HELP_URL, await askDevices(devicesOf(process.env))));
  } else if (flags.has("--capture")) {
    await capture({ flags, values });
  } else if (flags.has("--extcap-dlts")) {
    say(dltSentences(interfaceOf(values)));
  } else if (flags.has("--extcap-config")) {
    await configure(values);
  } else if (values.has("--extcap-capture-filter")) {
    await judge(values.get("--extcap-capture-filter")!);
  } else {
    throw wrong("Wireshark calls this; see ringwire extcap --help, and ringwire wireshark --help");
  }
}

/** Returns the list of RINGWIRE_DEVICES, else RINGWIRE_CONNECT, else a device on this machine. */
function devicesOf(env: NodeJS.ProcessEnv): string[] {
  const listed = (env["RINGWIRE_DEVICES"] ?? "").split(/[\s,]+/).filter((word) => word !== "");
  if (listed.length > 0) return [...new Set(listed)];
  return [env["RINGWIRE_CONNECT"] || DEFAULT_DEVICE];
}

function interfaceOf(values: Arguments["values"]): ExtcapInterface {
  const name = values.get("--extcap-interface");
  if (name === undefined) throw wrong("--extcap-interface is needed");
  const known = parseInterfaceName(name);
  if (known !== undefined) return known;
  throw wrong(`"${name}" is no interface of ringwire; see ringwire extcap --extcap-interfaces`);
}

async function configure(values: Arguments["values"]): Promise<void> {
  const at = interfaceOf(values);
  const reload = values.get("--extcap-reload-option")?.replace(/^--/, "");
  if (reload === undefined) {
    say(configSentences(at));
  } else if (reload === "nic") {
    const { askDevices } = await import("./extcap-devices.ts");
    const [facts] = await askDevices([values.get("--device") || at.device]);
    if (facts?.problem !== undefined) throw new Failure(facts.problem);
    say(nicSentences(at, facts!));
  } else {
    throw wrong(`--extcap-reload-option takes nic, not "${reload}"`);
  }
}

async function judge(filter: string): Promise<void> {
  const { filterProblem } = await import("./extcap-capture.ts");
  const problem = await filterProblem(filter);
  if (problem !== undefined) say([problem]);
}

async function capture({ flags, values }: Arguments): Promise<void> {
  const at = interfaceOf(values);
  const fifo = values.get("--fifo");
  if (fifo === undefined || fifo === "") throw wrong("--capture needs --fifo: where packets go");
  const { captureToFifo } = await import("./extcap-capture.ts");
  await captureToFifo({
    device: values.get("--device") || at.device,
    source: values.get("--nic") || at.source,
    ring: at.ring || flags.has("--ring"),
    filter: values.get("--extcap-capture-filter"),
    snap: whole(values, "--snap", MAX_SNAP),
    count: whole(values, "--count", MAX_COUNT),
    fifo,
  });
}

function whole(values: Arguments["values"], name: Value, most: number): number {
  const text = values.get(name) || "0";
  const n = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (n <= most) return n;
  throw wrong(`${name} takes a whole number up to ${most}, not "${text}"`);
}

function say(lines: readonly string[]): void {
  process.stdout.write(lines.map((line) => `${line}\n`).join(""));
}

const HELP = [
  "Usage: ringwire extcap ... is called by Wireshark;",
  "ringwire wireshark --install puts it there.",
  "",
  "  --extcap-interfaces",
  "  --extcap-interface NAME --extcap-dlts",
  "  --extcap-interface NAME --extcap-config [--extcap-reload-option nic]",
  "  --extcap-interface NAME --extcap-capture-filter EXPR",
  "  --extcap-interface NAME --capture --fifo PATH [--extcap-capture-filter EXPR]",
  "      [--device URL] [--nic switch|any|NIC] [--ring] [--snap BYTES] [--count N]",
  "",
  "Devices listed: those of RINGWIRE_DEVICES (HOST:PORT,...), else that of",
  `RINGWIRE_CONNECT, else ${DEFAULT_DEVICE}.`,
  "For captures by hand: ringwire capture --help.",
];
