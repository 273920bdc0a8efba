/** `ringwire wireshark`: installs the dissector and the extcap program in Wireshark's folders. */
import { existsSync, type Stats } from "node:fs";
import { lstat, mkdir, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import * as z from "zod";
import { DEFAULT_DEVICE } from "../../shared/transport/address.ts";
import { ExitCode, Failure, messageOf, systemCode } from "../common/failure.ts";
import { CommonShape, completed, target } from "../common/options.ts";
import { Output } from "../common/output.ts";
import { wiresharkFolders } from "./folders.ts";

/** Folder of the dissector and `ringwire-extcap`, beside the running program. */
const OURS = fileURLToPath(new URL("./plugin", import.meta.url));
/** Path of the compiled program. Wireshark does not run the sources. */
const PROGRAM = fileURLToPath(
  new URL(
    import.meta.url.endsWith(".ts") ? "../../dist/cli/ringwire.js" : "../ringwire.js",
    import.meta.url,
  ),
);
/** Line of every installed extcap program. Only a file with this line is changed or removed. */
const MARK = "# Made by: ringwire wireshark --install";

const Shape = z.object({
  ...CommonShape,
  install: z.boolean().default(false),
  uninstall: z.boolean().default(false),
  devices: z.array(target).default([]),
  plugins: z.string().min(1).optional(),
  extcap: z.string().min(1).optional(),
});

export function wiresharkCommand(): Command {
  const command = new Command("wireshark")
    .description(
      "Installs a dissector for Wireshark, and lists the NICs of devices as interfaces there.",
    )
    .option("--install", "put the dissector and the extcap program into Wireshark's folders")
    .option("--uninstall", "remove both")
    .option("--devices <device...>", `the devices whose NICs are listed (${DEFAULT_DEVICE})`)
    .option("--plugins <dir>", "folder for Lua plugins (the one that tshark -G folders names)")
    .option("--extcap <dir>", "folder for extcap programs (the one that tshark -G folders names)");
  return completed(command, EXAMPLES, Shape, async (options) => {
    // RINGWIRE_DEVICES in the environment is for the extcap program, so it is no error here.
    if (command.getOptionValueSource("devices") === "cli" && !options.install) {
      throw new Failure("--devices goes with --install", ExitCode.USAGE);
    }
    await runWireshark(options);
  });
}

const EXAMPLES = `Examples:
  ringwire wireshark                      what is installed, and where
  ringwire wireshark --install            for the device on this machine
  ringwire wireshark --install --devices lab:7700 10.0.0.7:7700
  tshark -D                               lists ringwire:switch@lab:7700 ...
`;

async function runWireshark(options: z.infer<typeof Shape>): Promise<void> {
  const { install, uninstall, devices } = options;
  const usage = (text: string): Failure => new Failure(text, ExitCode.USAGE);
  if (install && uninstall) throw usage("--install or --uninstall, not both");
  const output = new Output(options.json);
  const found = await wiresharkFolders();
  const dissector = dissectorAt(join(resolve(options.plugins ?? found.plugins), "ringwire"));
  const extcap = extcapAt(join(resolve(options.extcap ?? found.extcap), "ringwire-extcap"));
  // The notes are printed before anything is written, as a folder may belong to all users.
  if (!uninstall && options.extcap === undefined) {
    for (const note of found.notes) output.text(`note: ${note}`);
  }
  for (const part of [dissector, extcap]) {
    try {
      part.check(install);
      const there = await isThere(part);
      if (install) {
        await mkdir(join(part.path, ".."), { recursive: true });
        await rm(part.path, { force: true });
        await part.write(devices);
      }
      if (uninstall && there) await rm(part.path);
      const did = install
        ? "installed"
        : there
          ? uninstall
            ? "removed"
            : "is there"
          : "not there";
      output.event(`${part.what}: ${did}: ${part.path}`, { part: part.what, did, path: part.path });
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
      throw Failure.from(error, `${part.path}: ${messageOf(error)}`);
    }
  }
  if (!install) return;
  output.text(
    `devices: ${devices.length > 0 ? devices.join(", ") : `RINGWIRE_DEVICES, else ${DEFAULT_DEVICE}`}`,
  );
  output.text("Wireshark shows them when it starts anew, or by Capture, Refresh Interfaces.");
}

/** A file or link that belongs into one of Wireshark's folders. */
interface Part {
  readonly what: string;
  readonly path: string;
  /** Words for what another entry at the path is not. */
  readonly ours: string;
  isOurs(entry: Stats): Promise<boolean>;
  /** Throws Failure when the part can't be, or may not be installed. */
  check(install: boolean): void;
  write(devices: readonly string[]): Promise<void>;
}

/** The folder of the dissector, here and in older versions, whose links are replaced too. */
const DISSECTOR_FOLDER = /wireshark\/plugin$|capture\/wireshark$/;

/** The dissector: a link to its folder, so that an update of the package updates the plugin. */
const dissectorAt = (path: string): Part => ({
  what: "dissector",
  path,
  ours: "a link to a dissector",
  isOurs: async (entry) => entry.isSymbolicLink() && DISSECTOR_FOLDER.test(await readlink(path)),
  check: () => {
    const copy = `${path}.lua`;
    // With the dissector loaded twice, Wireshark would start with a Lua error.
    if (existsSync(copy)) throw new Failure(`${copy} is a copy of the dissector: remove it first`);
  },
  write: () => symlink(OURS, path),
});

/**
 * The extcap program: a short script with the paths of this Node and this ringwire, and the
 * devices. A Wireshark started from a desktop has neither the shell's PATH nor its variables.
 */
const extcapAt = (path: string): Part => ({
  what: "extcap program",
  path,
  ours: "made by ringwire",
  isOurs: async (entry) =>
    // A link that the user made counts as installed. The script, which holds more, replaces it.
    (entry.isSymbolicLink() && /ringwire-extcap$/.test(await readlink(path))) ||
    (entry.isFile() && (await readFile(path, "utf8")).includes(MARK)),
  check: (install) => {
    if (install && !existsSync(PROGRAM)) {
      throw new Failure(`${PROGRAM} is missing: npm run build makes it`);
    }
  },
  write: (devices) => writeFile(path, script(devices), { mode: 0o755 }),
});

/** Returns true when the part is installed. Rejects with Failure when something else is there. */
async function isThere({ path, ours, isOurs }: Part): Promise<boolean> {
  const entry = await lstat(path).catch(() => undefined);
  if (entry === undefined) return false;
  if (await isOurs(entry)) return true;
  throw new Failure(`${path} is there and not ${ours}: remove it first`);
}

function script(devices: readonly string[]): string {
  const preset = (name: string, value: string): string =>
    `if [ -z "\${${name}-}" ]; then ${name}=${quoted(value)}; export ${name}; fi`;
  return [
    "#!/bin/sh",
    MARK,
    "# Variables that are set already count more.",
    preset("RINGWIRE_BIN", PROGRAM),
    preset("RINGWIRE_NODE", process.execPath),
    ...(devices.length === 0 ? [] : [preset("RINGWIRE_DEVICES", devices.join(","))]),
    `exec /bin/sh ${quoted(join(OURS, "ringwire-extcap"))} "$@"`,
    "",
  ].join("\n");
}

/** Quotes any text for sh. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
