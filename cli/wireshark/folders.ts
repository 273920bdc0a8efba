/** Folders of Wireshark for plugins and extcap programs, as Wireshark prints them. */
import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join, relative, sep } from "node:path";
import { promisify } from "node:util";

export interface WiresharkFolders {
  /** Folder for Lua scripts of this user. */
  readonly plugins: string;
  readonly extcap: string;
  /** Sentences about the folders that the user needs to read. */
  readonly notes: readonly string[];
}

const ANSWER_MS = 10_000;
const run = promisify(execFile);

/** Asks tshark, else wireshark. Without either, returns the folders of new versions. */
export async function wiresharkFolders(home = homedir()): Promise<WiresharkFolders> {
  const usual = join(home, ".local/lib/wireshark");
  const told = (await foldersOf("tshark")) ?? (await foldersOf("wireshark"));
  const plugins = told?.get("Personal Lua Plugins") ?? join(usual, "plugins");
  const personal = join(usual, "extcap");
  if (told === undefined) {
    const note = "no wireshark is in PATH: these are the folders that it has by default";
    return { plugins, extcap: personal, notes: [note] };
  }
  const extcap = told.get("Personal Extcap path");
  if (extcap !== undefined) return { plugins, extcap, notes: [] };
  // Wireshark before 4.2 has one folder for all users of the machine.
  const common = told.get("Extcap path") ?? told.get("Global Extcap path");
  if (common === undefined) return { plugins, extcap: personal, notes: [] };
  if (await mayWrite(common)) {
    const note = `this Wireshark has one folder for extcap programs, that of all users: ${common}; --extcap DIR chooses another`;
    return { plugins, extcap: common, notes: isBelow(home, common) ? [] : [note] };
  }
  const note = `this Wireshark looks for extcap programs in ${common} only: install as root, or start it with WIRESHARK_EXTCAP_DIR=${personal}. Until then tshark -D lists no ringwire interface`;
  return { plugins, extcap: personal, notes: [note] };
}

/** Parses lines of `-G folders`: a title, a colon, spaces or a tab, a path. */
async function foldersOf(program: string): Promise<ReadonlyMap<string, string> | undefined> {
  const asked = run(program, ["-G", "folders"], { timeout: ANSWER_MS });
  const answer = await asked.catch(() => undefined);
  if (answer === undefined) return undefined;
  const lines = answer.stdout.split("\n").flatMap((line) => {
    const [, title, path] = /^([^:]+):\s+(\S.*)$/.exec(line) ?? [];
    return title === undefined || path === undefined ? [] : [[title, path] as const];
  });
  return new Map(lines);
}

function isBelow(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return !isAbsolute(way) && way.split(sep)[0] !== "..";
}

const mayWrite = (folder: string): Promise<boolean> =>
  access(folder, constants.W_OK).then(
    () => true,
    () => false,
  );
