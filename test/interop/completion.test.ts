/** Shell completions and the manual page: complete, and accepted by the programs that read them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { completionScript, type Shell } from "../../cli/help/completion.ts";
import { commandLine } from "../../cli/main.ts";
import { missingProgram } from "../support/installed.ts";
import { ROOT, run, runRingwire } from "../support/process.ts";

const program = await commandLine();
const help = program.createHelp();
const commands = help.visibleCommands(program);
/** "pkt-gen --rate" for every spelling of every flag in the help. */
const flags = commands.flatMap((command: Command) =>
  help
    .visibleOptions(command)
    .flatMap((option) =>
      [option.short, option.long]
        .filter((name) => name !== undefined)
        .map((name) => ({ command: command.name(), name })),
    ),
);

let folder: string;
const script = (shell: Shell) => join(folder, shell);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ringwire-completion-"));
  for (const shell of ["bash", "zsh", "fish"] as const) {
    writeFileSync(script(shell), completionScript(shell, program));
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** bash's completions after these words; the cursor is in the last word. */
async function bash(...words: string[]): Promise<string[]> {
  const ask = `source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ringwire
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const child = await run(["bash", "-c", ask, script("bash"), "ringwire", ...words]);
  expect(child.stderr).toBe("");
  return child.stdout.split("\n").filter((line) => line !== "");
}

describe.skipIf(missingProgram("bash"))("completion in bash", () => {
  it("offers every command, and every flag of each", async () => {
    expect(await bash("")).toEqual(expect.arrayContaining(commands.map((c) => c.name())));
    const offered = await Promise.all(
      commands.map(async (command) =>
        (await bash(command.name(), "-")).map((name) => ({ command: command.name(), name })),
      ),
    );
    expect(offered.flat()).toEqual(flags);
  });

  it.each([
    ["the beginning of a command", ["dev"], ["device"]],
    ["the beginning of a flag", ["device", "--li"], ["--listen"]],
    ["words of a flag", ["frontend", "--driver", ""], ["ena", "xen"]],
    ["words behind an equals sign", ["frontend", "--driver", "=", "x"], ["xen"]],
    ["nothing where anything may stand", ["frontend", "--name", ""], []],
    ["files of a flag", ["device", "--capture", "package.j"], ["package.json"]],
    ["files of a command", ["replay", "tsconfig.b"], ["tsconfig.build.json"]],
    ["folders of a flag", ["wireshark", "--plugins", "front"], ["frontend"]],
    ["commands behind help", ["help", "wire"], ["wireshark"]],
    ["shells", ["completion", "b"], ["bash"]],
  ])("offers %s", async (_what, words, offer) => {
    expect(await bash(...words)).toEqual(offer);
  });
});

it.skipIf(missingProgram("fish"))(
  "completion in fish offers commands, flags and words",
  async () => {
    const lines = ["dev", "device --li", "frontend --driver ", "completion b"];
    const ask = lines.map((line) => `complete -C 'ringwire ${line}'`).join("; ");
    const child = await run(["fish", "--no-config", "-c", `source ${script("fish")}; ${ask}`]);
    expect(child.stderr).toBe("");
    const offered = child.stdout
      .trimEnd()
      .split("\n")
      .map((line) => line.split("\t")[0]);
    expect(offered).toEqual(["device", "--listen", "ena", "xen", "bash"]);
  },
);

it.skipIf(missingProgram("zsh"))("completion in zsh is registered, without an error", async () => {
  const ask = `autoload -Uz compinit; compinit -u -D; source "$0"; print $_comps[ringwire]`;
  const child = await run(["zsh", "-f", "-c", ask, script("zsh")]);
  expect({ out: child.stdout, err: child.stderr }).toEqual({ out: "_ringwire\n", err: "" });
});

it.each(["zsh", "fish"] as const)("completion for %s has every command and flag", (shell) => {
  const text = completionScript(shell, program);
  const missing = flags.filter(({ command, name }) => {
    if (shell === "zsh") {
      const own = text.slice(text.indexOf(`\n    ${command}) `)).split(" ;;")[0]!;
      return !own.includes(`${name}[`);
    }
    const spelt = name.startsWith("--") ? `-l ${name.slice(2)} ` : `-s ${name.slice(1)} `;
    const own = text.split("\n").filter((line) => line.includes(`from ${command}'`));
    return !own.some((line) => line.includes(spelt));
  });
  expect(missing).toEqual([]);
});

it("the command prints the script, and refuses a shell that it does not know", async () => {
  const printed = await runRingwire(["completion", "bash"]);
  expect(printed.stdout).toBe(completionScript("bash", program));
  const refused = await runRingwire(["completion", "tcsh"]);
  expect(refused.exit?.code).toBe(2);
  expect(refused.stderr).toContain('no completion for "tcsh"');
});

describe.skipIf(missingProgram("groff"))("the manual page of the build", () => {
  const page = join(ROOT, "dist/man/ringwire.1");

  it("is read by groff without a warning, and has every command and flag", async () => {
    const child = await run(["groff", "-ww", "-man", "-Tutf8", "-P-cbou", page], {
      env: { LC_ALL: "C.UTF-8" },
    });
    expect(child.stderr).toBe("");
    const text = child.stdout.replaceAll("‐", "-").replaceAll("−", "-");
    const sections = text.split(/\n {3}ringwire /);
    const missing = flags.filter(({ command, name }) => {
      const own = sections.find((section) => section.startsWith(`${command} `)) ?? "";
      return !new RegExp(`(^|[\\s,])${name}\\b`, "m").test(own);
    });
    expect(missing).toEqual([]);
  });
});
