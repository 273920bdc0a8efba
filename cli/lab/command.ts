/** `ringwire lab`: a lab in one file. Takes it up and down, shows it, checks its file. */
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, resolve } from "node:path";
import { Command } from "commander";
import * as z from "zod";
import { ExitCode, Failure, wrong } from "../common/failure.ts";
import { CommonShape, completed, whole, word } from "../common/options.ts";
import { Output } from "../common/output.ts";
import { onStop } from "../common/signals.ts";
import { either } from "../config/issues.ts";
import type { Lab, LabError } from "./model.ts";

const ACTIONS = ["up", "down", "status", "check"] as const;
type Action = (typeof ACTIONS)[number];
const DEFAULT_FILE = "lab.toml";

const Shape = z.object({
  ...CommonShape,
  host: word.optional(),
  timeout: whole(1, 3600).default(60),
  everywhere: z.boolean().default(false),
});
type Options = z.infer<typeof Shape>;

export function labCommand(): Command {
  const command = new Command("lab")
    .description("A lab in one file: device, segments, NICs, namespaces, addresses, captures.")
    .argument("<action>", ACTIONS.join(", "))
    .argument("[file]", `the lab file, in TOML (${DEFAULT_FILE})`)
    .option("--host <name>", "the host of the lab that this one is (its host name)")
    .option("--timeout <seconds>", "up: time for all NICs to be up and to see each other (60)")
    .option("--everywhere", "up: also wait until the NICs of other hosts answer");
  return completed(command, EXAMPLES, Shape, async (options, action = "", file = DEFAULT_FILE) => {
    const known = ACTIONS.find((one) => one === action);
    if (known === undefined) throw wrong(`lab takes ${either(ACTIONS)}, not "${action}"`);
    await run(known, file, options);
  });
}

const EXAMPLES = `Examples:
  ringwire lab check lab.toml              only look for mistakes
  sudo ringwire lab up lab.toml            start what is missing, and wait for it
  ringwire lab status lab.toml
  sudo ringwire lab down lab.toml          end and remove all of it
  sudo ringwire lab up lab.toml --host b   the part of host b
Keys that need root: netns, addresses and routes of a NIC, and a tap that is not
there yet.
`;

async function run(action: Action, file: string, options: Options): Promise<void> {
  const output = new Output(options.json);
  const { readLab } = await import("./lab.ts");
  if (action === "check") {
    const { lab, errors } = readLab(file);
    tell(file, errors, output);
    if (errors.length > 0) throw mistakes(file, errors, true);
    const { nics } = lab;
    output.event(`${file} has no mistakes: lab ${lab.name}, ${nics.length} NICs`, {
      ...{ event: "checked", file, ok: true, lab: lab.name, nics: nics.length, errors },
    });
    return;
  }
  if (process.platform !== "linux") {
    throw new Failure("lab up, down and status need Linux: they find processes in /proc");
  }
  if (action === "down") return await down(file, options, output);
  const { lab, errors } = readLab(file);
  if (errors.length > 0) {
    tell(file, errors, output);
    throw mistakes(file, errors);
  }
  const host = hostOf(lab, options.host);
  const id = idOf(lab.name, host);
  const { LabState } = await import("./state.ts");
  const state = new LabState(id, lab.folder);
  if (action === "status") {
    const { showStatus } = await import("./status.ts");
    if (await showStatus(id, lab, host, state, output)) return;
    const failure = new Failure(`not all of lab ${id} is up`);
    failure.isTold = true;
    throw failure;
  }
  needRoot(file, lab, host);
  const { takeUp } = await import("./up.ts");
  const stop = onStop();
  const { timeout, everywhere } = options;
  state.lock();
  try {
    await takeUp({ id, lab, host, state, output, stop, timeoutMs: timeout * 1000, everywhere });
  } finally {
    state.unlock();
    stop.forget();
  }
}

/** A file with mistakes, or one that is gone, does not keep its lab up. */
async function down(file: string, { host }: Options, output: Output): Promise<void> {
  const { parseLab, readLab, nameOfFile } = await import("./lab.ts");
  const { LabState } = await import("./state.ts");
  const { takeDown } = await import("./down.ts");
  const { lab, errors } = existsSync(file) ? readLab(file) : parseLab("", file);
  const isWhole = errors.length === 0;
  const name = isWhole || lab.name !== nameOfFile(file) ? lab.name : nameOfFile(file);
  const own = isWhole ? hostOf(lab, host) : (host ?? lab.hosts.find(isThis)?.name);
  const id = idOf(name, own);
  const state = new LabState(id, dirname(resolve(file)));
  state.lock();
  try {
    await takeDown(id, state, output);
  } finally {
    state.unlock();
  }
}

/** The name of a lab on this host. */
const idOf = (name: string, host: string | undefined): string =>
  host === undefined ? name : `${name}@${host}`;

const isThis = ({ name }: { readonly name: string }): boolean =>
  [hostname(), hostname().split(".")[0]].includes(name);

/** Returns which host of the lab this one is; undefined in a lab without hosts. Throws Failure. */
function hostOf({ hosts }: Lab, asked: string | undefined): string | undefined {
  const names = hosts.map(({ name }) => name);
  if (names.length === 0) {
    if (asked === undefined) return undefined;
    throw wrong(`--host ${asked}: the lab has no [[host]], and belongs to this host in whole`);
  }
  const host = asked ?? hosts.find(isThis)?.name;
  if (host !== undefined && names.includes(host)) return host;
  if (host !== undefined) throw wrong(`--host takes ${either(names)}, not "${host}"`);
  throw wrong(`this host is called ${hostname()}, and the lab has ${names.join(", ")}: add --host`);
}

/** Throws Failure for keys that this user can't have. */
function needRoot(file: string, lab: Lab, host: string | undefined): void {
  if (process.geteuid?.() === 0) return;
  const key = ["netns", "addresses", "routes"].find((name) =>
    lab.nics.some((nic) => nic.host === host && [nic[name as "netns"] ?? []].flat().length > 0),
  );
  if (key === undefined) return;
  throw new Failure(`${file}: the key ${key} of a NIC needs root: sudo ringwire lab up ${file}`);
}

/** Prints mistakes: a line each for users, all at once for programs. */
function tell(file: string, errors: readonly LabError[], output: Output): void {
  if (errors.length === 0) return;
  for (const { line, place, message } of errors) {
    process.stderr.write(`${file}:${line}: ${place === "" ? "" : `${place} `}${message}\n`);
  }
  output.value({ event: "checked", file, ok: false, errors });
}

function mistakes(file: string, errors: readonly LabError[], isTold = false): Failure {
  const count = errors.length === 1 ? "a mistake" : `${errors.length} mistakes`;
  const failure = new Failure(`${file} has ${count}`, ExitCode.USAGE);
  failure.isTold = isTold;
  return failure;
}
