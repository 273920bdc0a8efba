/** The manual page ringwire(1), in the man macros of troff, generated from the commands. */
import type { Command } from "commander";
import { VERSION } from "../common/version.ts";
import { type CommandPage, commandTree, type Flag } from "./command-tree.ts";

/** Returns the page in the format of man(7). The build writes it to dist/man. */
export function manPage(program: Command): string {
  const tree = commandTree(program);
  const lines = [
    // Without a date, the same tree gives the same page at any time.
    `.TH RINGWIRE 1 "" "ringwire ${VERSION}" "User Commands"`,
    ".SH NAME",
    `ringwire \\- ${text(tree.description.replace(/\.$/, "").replace(/^A /, "a "))}`,
    ".SH SYNOPSIS",
    ".B ringwire",
    ".I command",
    "[options]",
    ".SH DESCRIPTION",
    "First steps:",
    ...verbatim(tree.examples),
    ".SH COMMANDS",
    "Each has",
    `.BR ${text("--help")} .`,
    ...tree.commands.flatMap(commandSection),
    ".SH ENVIRONMENT",
    ".TP",
    ".BI RINGWIRE_ FLAG",
    "Any flag of a command in upper case, with _ for each hyphen: RINGWIRE_LISTEN is",
    text("--listen."),
    "A flag on the command line beats the environment, and the environment beats the file.",
    ".SH FILES",
    text("--config FILE names a JSON file with one section for each command, and in it the flags:"),
    ...verbatim(
      '{ "device": { "listen": "0.0.0.0:7700", "insecure": true, "uplink": ["tap:lab0"] } }',
    ),
    ".SH EXIT STATUS",
    "0: done. 1: failed. 2: wrong usage.",
    ".SH SEE ALSO",
    text("README.md in the folder of the package,"),
    ".BR tcpdump (1),",
    ".BR wireshark (1)",
  ];
  return `${lines.join("\n")}\n`;
}

function commandSection(command: CommandPage): string[] {
  return [
    `.SS ${text(command.usage)}`,
    text(command.description),
    ...command.operands
      .filter((o) => o.description !== "")
      .flatMap((o) => [".TP", `.I ${text(o.name)}`, text(o.description)]),
    ...command.flags.flatMap(flagEntry),
    ...(command.notes === "" ? [] : verbatim(command.notes)),
    ...(command.examples === "" ? [] : [".PP", "Examples:", ...verbatim(command.examples)]),
  ];
}

function flagEntry(flag: Flag): string[] {
  const names = [flag.short, flag.long].filter((name) => name !== undefined).map(text);
  const value = flag.placeholder === undefined ? "" : ` \\fI${text(flag.placeholder)}\\fR`;
  return [".TP", `\\fB${names.join("\\fR, \\fB")}\\fR${value}`, text(flag.description)];
}

/** Returns a block whose line breaks and blanks are kept. */
function verbatim(block: string): string[] {
  return [".PP", ".nf", ...block.split("\n").map(text), ".fi"];
}

/** Escapes text for troff, so that it holds no requests or escapes, and hyphens can be copied. */
function text(plain: string): string {
  return plain
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^(?=[.'])/, "\\&");
}
