/**
 * `ringwire completion`: scripts that complete commands, flags and their words in a shell.
 *
 * The scripts are static, so that a key press starts no program. They are generated from the
 * commands, so that they contain every flag.
 */
import { Argument, Command } from "commander";
import { ExitCode, Failure } from "../common/failure.ts";
import {
  type CommandPage,
  type CommandTree,
  commandTree,
  type Flag,
  type ValueKind,
} from "./command-tree.ts";

const SHELLS = { bash, zsh, fish } as const;
const NAMES = Object.keys(SHELLS);

const EXAMPLES = `Examples:
  source <(ringwire completion bash)                       # ~/.bashrc
  ringwire completion zsh > "\${fpath[1]}/_ringwire"         # then start zsh anew
  ringwire completion fish > ~/.config/fish/completions/ringwire.fish
`;

export function completionCommand(): Command {
  const shell = new Argument("<shell>", "bash, zsh or fish");
  shell.argChoices = NAMES;
  return new Command("completion")
    .description("Prints a script that completes commands and flags in your shell.")
    .addArgument(shell)
    .addHelpText("before", EXAMPLES)
    .action((name: string, _flags: unknown, self: Command) => {
      if (!isShell(name)) {
        const known = NAMES.join(", ");
        throw new Failure(
          `there is no completion for "${name}"; there is ${known}`,
          ExitCode.USAGE,
        );
      }
      process.stdout.write(completionScript(name, self.parent!));
    });
}

export type Shell = keyof typeof SHELLS;

function isShell(name: string): name is Shell {
  return Object.hasOwn(SHELLS, name);
}

/** Returns the script with which a shell completes `program`. */
export function completionScript(shell: Shell, program: Command): string {
  return SHELLS[shell](commandTree(program));
}

const spellings = (flag: Flag): string[] =>
  [flag.short, flag.long].filter((name) => name !== undefined);

/** Returns all spellings of a page's flags. */
const flagWords = (page: CommandPage): string => page.flags.flatMap(spellings).join(" ");

// bash: one function. It finds the command among the words, then checks the word before the cursor.

function bash(tree: CommandTree): string {
  const commands = tree.commands.map((command) => command.name).join(" ");
  return `# bash completion for ringwire: source <(ringwire completion bash)
_ringwire() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command= i
  # bash cuts --flag=value into three words.
  if [[ $cur == "=" ]]; then cur=; elif [[ $prev == "=" ]]; then prev=\${COMP_WORDS[COMP_CWORD-2]}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ \${COMP_WORDS[i]} != -* ]]; then command=\${COMP_WORDS[i]}; break; fi
  done
  COMPREPLY=()
  case "$command $prev" in
${tree.commands.flatMap(bashValues).join("\n")}
  esac
  case $command in
    "") COMPREPLY=($(compgen -W "${commands} ${flagWords(tree)}" -- "$cur")) ;;
${tree.commands.map(bashCommand).join("\n")}
  esac
}
complete -F _ringwire ringwire
`;
}

/** Returns the cases of flags with a value. A shell offers words, a path, or nothing. */
function bashValues(command: CommandPage): string[] {
  return command.flags
    .filter((flag) => flag.value !== undefined)
    .map((flag) => {
      const at = spellings(flag).map((name) => `"${command.name} ${name}"`);
      return `    ${at.join("|")}) ${bashOffer(flag.value!)}return ;;`;
    });
}

function bashOffer(value: ValueKind): string {
  if (value === "other") return "";
  if (value === "file" || value === "folder") return bashPaths(value === "file" ? "f" : "d");
  return `COMPREPLY=($(compgen -W "${value.join(" ")}" -- "$cur")); `;
}

/** Lists files or folders, one a line, as names may contain blanks. bash before 4 lacks compopt. */
function bashPaths(what: "f" | "d"): string {
  return `compopt -o filenames 2>/dev/null; local IFS=$'\\n'; COMPREPLY=($(compgen -${what} -- "$cur")); `;
}

/** Completes the words after a command: a flag, or the operand. */
function bashCommand(command: CommandPage): string {
  const flags = `COMPREPLY=($(compgen -W "${flagWords(command)}" -- "$cur"))`;
  const operand = command.operands[0] === undefined ? "" : bashOffer(command.operands[0].value);
  if (operand === "") return `    ${command.name}) ${flags} ;;`;
  return `    ${command.name}) if [[ $cur == -* ]]; then ${flags}; else ${operand}fi ;;`;
}

// zsh: _arguments for the program, and one list of specifications for each command.

function zsh(tree: CommandTree): string {
  const commands = tree.commands.map((c) => `    ${quote(`${c.name}:${c.description}`)}`);
  const cases = tree.commands.map(
    (c) =>
      `    ${c.name}) _arguments ${[...c.flags.flatMap(zshFlag), ...zshOperands(c)].join(" \\\n      ")} ;;`,
  );
  return `#compdef ringwire
# zsh completion for ringwire: ringwire completion zsh > "\${fpath[1]}/_ringwire"
_ringwire() {
  local -a commands=(
${commands.join("\n")}
  )
  if (( CURRENT == 2 )); then
    _arguments ${tree.flags.flatMap(zshFlag).join(" ")}
    _describe command commands
    return
  fi
  local command=$words[2]
  words=("\${(@)words[2,-1]}")
  (( CURRENT-- ))
  case $command in
${cases.join("\n")}
  esac
}
if [[ $funcstack[1] == _ringwire ]]; then _ringwire "$@"; else compdef _ringwire ringwire; fi
`;
}

function zshFlag(flag: Flag): string[] {
  const names = spellings(flag);
  // A flag on the line is not offered again, in neither spelling.
  const once = flag.repeats ? "*" : names.length > 1 ? `(${names.join(" ")})` : "";
  const text = `[${flag.description.replaceAll(/[[\]\\]/g, "\\$&")}]`;
  const value =
    flag.value === undefined ? "" : `:${zshText(flag.placeholder!)}:${zshAction(flag.value)}`;
  return names.map((name) => quote(`${once}${name}${text}${value}`));
}

function zshOperands(command: CommandPage): string[] {
  return command.operands.map((o) => quote(`:${zshText(o.name)}:${zshAction(o.value)}`));
}

function zshAction(value: ValueKind): string {
  if (value === "other") return " ";
  if (value === "file") return "_files";
  return value === "folder" ? "_files -/" : `(${value.join(" ")})`;
}

const zshText = (text: string): string => text.replaceAll(/[<>[\]]/g, "").replaceAll(":", "\\:");

// fish: one line for each command, flag and operand.

function fish(tree: CommandTree): string {
  const first = "complete -c ringwire -f -n __fish_use_subcommand";
  const lines = [
    ...tree.commands.map((c) => `${first} -a ${c.name} -d ${quote(c.description)}`),
    ...tree.flags.map((flag) => `${first} ${fishFlag(flag)}`),
  ];
  for (const command of tree.commands) {
    const within = `complete -c ringwire -n '__fish_seen_subcommand_from ${command.name}'`;
    const operand = command.operands[0]?.value;
    if (operand === undefined || operand === "other") lines.push(`${within} -f`);
    else if (typeof operand !== "string") lines.push(`${within} -f -a ${quote(operand.join(" "))}`);
    for (const flag of command.flags) lines.push(`${within} ${fishFlag(flag)}`);
  }
  return `# fish completion for ringwire
${lines.join("\n")}
`;
}

function fishFlag(flag: Flag): string {
  const names = spellings(flag).map((name) =>
    name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`,
  );
  return [...names, ...fishValue(flag), `-d ${quote(flag.description)}`].join(" ");
}

function fishValue({ value }: Flag): string[] {
  if (value === undefined) return [];
  if (value === "file") return ["-r", "-F"];
  if (value === "folder") return ["-x", "-a '(__fish_complete_directories)'"];
  return value === "other" ? ["-x"] : ["-x", `-a ${quote(value.join(" "))}`];
}

/** Quotes a word with single quotes, in the form that all three shells accept. */
function quote(text: string): string {
  return `'${text.replaceAll("'", `'"'"'`)}'`;
}
