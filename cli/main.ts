/** Finds the command in the arguments, runs it, and turns its result into an exit code. */
import { Command, CommanderError } from "commander";
import { PROTOCOL_VERSION } from "../shared/wire/protocol.ts";
import { unknownVariables } from "./common/environment.ts";
import { ExitCode, Failure } from "./common/failure.ts";
import { createLog } from "./common/log.ts";
import { asksForJson, logOptions } from "./common/options.ts";
import { endWithoutStdout } from "./common/output.ts";
import { VERSION } from "./common/version.ts";
import { boundOutput, LAB_MARK } from "./lab/bounded.ts";

/** Every command by name, in the order of the help. A start loads only the command it needs. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  demo: async () => (await import("./demo/demo.ts")).demoCommand(),
  device: async () => (await import("./device.ts")).deviceCommand(),
  frontend: async () => (await import("./frontend.ts")).frontendCommand(),
  "pkt-gen": async () => (await import("./netmap/pkt-gen.ts")).pktGenCommand(),
  bridge: async () => (await import("./netmap/bridge.ts")).bridgeCommand(),
  lb: async () => (await import("./netmap/lb.ts")).lbCommand(),
  replay: async () => (await import("./netmap/replay.ts")).replayCommand(),
  status: async () => (await import("./status/status.ts")).statusCommand(),
  events: async () => (await import("./events/events.ts")).eventsCommand(),
  capture: async () => (await import("./capture/capture.ts")).captureCommand(),
  wireshark: async () => (await import("./wireshark/wireshark.ts")).wiresharkCommand(),
  lab: async () => (await import("./lab/command.ts")).labCommand(),
  migrate: async () => (await import("./migrate.ts")).migrateCommand(),
  cert: async () => (await import("./cert/cert.ts")).certCommand(),
  token: async () => (await import("./token/token.ts")).tokenCommand(),
  completion: async () => (await import("./help/completion.ts")).completionCommand(),
  exchange: async () => (await import("./demo/exchange.ts")).exchangeCommand(),
};
const HIDDEN = "exchange";
/** The command that needs the flags of all commands. */
const OF_ALL = "completion";

/** Time (ms) for closed sockets and files to end. A handle that is still open then is a leak. */
const LINGER_MS = 2000;

/** Runs the command line `argv` (node, program, arguments) and sets process.exitCode. */
export async function main(argv: readonly string[]): Promise<void> {
  process.stdout.on("error", (error) => {
    // A command that handles the error itself has a listener of its own.
    if (process.stdout.listenerCount("error") === 1) endWithoutStdout(error);
  });
  // A log without a reader does not stop the work.
  process.stderr.on("error", () => {});
  process.exitCode = await run(argv);
  setTimeout(() => process.exit(), LINGER_MS).unref();
}

/**
 * Returns the whole command line. The build generates the manual page from it. With `only`, the
 * other commands have just a name.
 */
export async function commandLine(only?: string): Promise<Command> {
  const program = new Command("ringwire")
    .description("A virtual NIC whose driver and whose device live in different processes.")
    .version(VERSION)
    .helpOption("-h, --help", "print this help")
    .helpCommand("help [command]", "print the help of a command")
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .addHelpText("before", EXAMPLES)
    .addHelpText("after", AFTER);
  for (const [name, load] of Object.entries(COMMANDS)) {
    const command = only === undefined || only === name ? await load() : new Command(name);
    program.addCommand(command.copyInheritedSettings(program), { hidden: name === HIDDEN });
  }
  return program;
}

/** Runs the command line and returns the exit code. */
export async function run(argv: readonly string[]): Promise<ExitCode> {
  const [, , name = ""] = argv;
  const isOne = Object.hasOwn(COMMANDS, name) && name !== OF_ALL;
  const program = await commandLine(isOne ? name : undefined);
  let begun: Command | undefined;
  program.hook("preAction", async (_program, command) => {
    begun = command;
    if (process.env[LAB_MARK] !== undefined) boundOutput();
    // Without a title, lists of processes call every Node "MainThread".
    process.title = ["ringwire", ...argv.slice(2)].join(" ");
    if (unknownVariables(program, process.env).length === 0) return;
    warnOf(unknownVariables(await commandLine(), process.env), command);
  });
  try {
    if (argv.length <= 2) {
      program.outputHelp({ error: true });
      return ExitCode.USAGE;
    }
    await program.parseAsync(argv);
    return ExitCode.DONE;
  } catch (error) {
    return explain(error, argv.includes("--json") || asksForJson(begun));
  }
}

/** Logs sentences in the form of the command's log. Wrong options of the log are reported later. */
function warnOf(sentences: readonly string[], command: Command): void {
  if (sentences.length === 0) return;
  const { verbose = false, quiet = false, log } = command.opts<Record<string, unknown>>();
  const form = log === "json" ? log : undefined;
  const warnings = createLog(
    logOptions({ verbose: verbose === true, quiet: quiet === true, log: form }),
  );
  for (const sentence of sentences) warnings.warn({}, sentence);
}

/** Converts commander's message to the form of this program: one line, without "error:". */
const wordsOf = ({ message }: CommanderError): string =>
  message
    .replace(/^error: /, "")
    .replace(/\s*\n\s*/g, " ")
    .replace(/'([^']*)'/g, '"$1"')
    .replace(/\.$/, "");

/** Prints an error on stderr, and with `json` on stdout, too. Returns the exit code. */
function explain(error: unknown, json: boolean): ExitCode {
  if (error instanceof CommanderError) {
    // Commander also throws for help and version, with exit code 0.
    if (error.exitCode === 0) return ExitCode.DONE;
    return explain(new Failure(wordsOf(error), ExitCode.USAGE), json);
  }
  if (error instanceof Failure) {
    const { message, code, isTold } = error;
    process.stderr.write(`ringwire: ${message}\n`);
    if (json && !isTold)
      process.stdout.write(`${JSON.stringify({ event: "error", code, message })}\n`);
    return error.exitCode;
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(`ringwire: an error in the program itself: ${text}\n`);
  return ExitCode.FAILED;
}

const EXAMPLES = `Examples:
  ringwire demo                                  two NICs and a device, here
  ringwire device                                a device at 127.0.0.1:7700
  ringwire frontend                              a NIC of it
  ringwire pkt-gen -i netmap:ena0 --connect HOST:7700    packets from its rings
  ringwire status                                its ports, queues and drops
`;

const AFTER = `
Flags can also be set in the environment, as RINGWIRE_WHEN_FULL=hold sets
--when-full hold, and in a JSON file of options, one section for each command:
  ringwire device --config lab.json
  { "device": { "when-full": "hold", "uplink": ["tap:lab0"] } }
A flag beats the environment, and the environment beats the file.
Exit code: 0 done, 1 failed, 2 wrong usage.
"ringwire COMMAND --help" tells more.

This is ringwire ${VERSION} with version ${PROTOCOL_VERSION} of the wire, on Node ${process.versions.node}.`;
