/**
 * The command line as data, read from the commands themselves. The man page and the shell
 * completions are generated from it, so that neither can lack a flag.
 */
import type { Command, Option } from "commander";

/** The completions that a shell can offer for a value: words, a path, or nothing. */
export type ValueKind = readonly string[] | "file" | "folder" | "other";

export interface Flag {
  /** Forms on the command line: "-f", "--function". One of them may be absent. */
  readonly short: string | undefined;
  readonly long: string | undefined;
  /** Placeholder of the value, as "<name>"; undefined for a flag without a value. */
  readonly placeholder: string | undefined;
  readonly value: ValueKind | undefined;
  /** True when the flag may be given several times. */
  readonly repeats: boolean;
  readonly description: string;
}

export interface Operand {
  readonly name: string;
  readonly value: ValueKind;
  readonly description: string;
}

export interface CommandPage {
  readonly name: string;
  readonly description: string;
  /** Usage line: "ringwire device [options]". */
  readonly usage: string;
  /** Text that --help prints before the usage, without its heading; may be empty. */
  readonly examples: string;
  /** Text that --help prints behind the flags; may be empty. */
  readonly notes: string;
  readonly flags: readonly Flag[];
  readonly operands: readonly Operand[];
}

export interface CommandTree extends CommandPage {
  readonly commands: readonly CommandPage[];
}

/** Returns the visible commands and flags below `program`. */
export function commandTree(program: Command): CommandTree {
  const help = program.createHelp();
  const commands = help.visibleCommands(program);
  const names = commands.map((command) => command.name());
  return {
    ...pageOf(program),
    commands: commands.map((command) => {
      const page = pageOf(command);
      // The operand of "help" is one of these commands. Commander describes it only as a word.
      if (page.name !== "help") return page;
      const operands = page.operands.map((operand) => ({ ...operand, value: names }));
      return { ...page, operands };
    }),
  };
}

function pageOf(command: Command): CommandPage {
  const help = command.createHelp();
  return {
    name: command.name(),
    description: help.commandDescription(command),
    usage: help.commandUsage(command),
    ...textsOf(command),
    flags: help.visibleOptions(command).map(flagOf),
    operands: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      value: kindOf(argument.name(), argument.argChoices),
      description: argument.description,
    })),
  };
}

function flagOf(option: Option): Flag {
  const placeholder = /[<[].*/.exec(option.flags)?.[0];
  return {
    short: option.short,
    long: option.long,
    placeholder,
    value: placeholder === undefined ? undefined : kindOf(placeholder, option.argChoices),
    repeats: option.variadic || Array.isArray(option.defaultValue),
    description: option.description,
  };
}

/** Returns the kind of value that a placeholder names: `<file>`, `<dir>`, `<ena|xen>`. */
function kindOf(placeholder: string, choices: readonly string[] | undefined): ValueKind {
  const name = placeholder.replaceAll(/[<>[\].]/g, "");
  if (choices !== undefined) return choices;
  if (name.includes("|")) return name.split("|");
  if (name === "file") return "file";
  return name === "dir" || name === "folder" ? "folder" : "other";
}

/** Returns the texts before and behind the help that commander generates for a command. */
function textsOf(command: Command): Pick<CommandPage, "examples" | "notes"> {
  let text = "";
  const before = command.configureOutput();
  command.configureOutput({
    ...before,
    writeOut: (part) => {
      text += part;
    },
  });
  command.outputHelp();
  command.configureOutput(before);
  const page = command.helpInformation();
  const at = text.indexOf(page);
  return {
    examples: text
      .slice(0, at)
      .replace(/^Examples:\n/, "")
      .trimEnd(),
    notes: text.slice(at + page.length).trim(),
  };
}
