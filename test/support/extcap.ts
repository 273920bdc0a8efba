/**
 * Wireshark's side of extcap: named pipes, and a tshark that finds our program in its extcap folder.
 *
 * The folder that root's Wireshark looks into can't be chosen (wsutil/filesystem.c takes
 * WIRESHARK_EXTCAP_DIR only from ordinary users), so for root one is mounted over it, which this
 * tshark alone sees.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { outputOf } from "./installed.ts";
import { type Child, finished, ROOT, start } from "./process.ts";

export const EXTCAP_PROGRAM = join(ROOT, "dist/cli/wireshark/plugin/ringwire-extcap");
const IS_ROOT = process.getuid?.() === 0;

/** A home for one Wireshark: its folders hold nothing but what a test puts there. */
export class WiresharkHome {
  readonly folder = mkdtempSync(join(tmpdir(), "ringwire-extcap-"));
  /** What its extcap folder holds. */
  readonly extcap = join(this.folder, "extcap");

  constructor() {
    mkdirSync(this.extcap);
  }

  /** Starts a program that sees this home, and programs from it see it too. */
  start(argv: readonly string[], env: Readonly<Record<string, string>> = {}): Child {
    const own = { HOME: this.folder, XDG_CONFIG_HOME: join(this.folder, "config"), ...env };
    const cover = IS_ROOT ? ["unshare", "--mount", "sh", "-c", COVER, "sh", this.extcap] : [];
    return start([...cover, ...argv], { env: { ...own, WIRESHARK_EXTCAP_DIR: this.extcap } });
  }

  run(argv: readonly string[], env?: Readonly<Record<string, string>>): Promise<Child> {
    return finished(this.start(argv, env));
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Mounts the folder $1 over the one for everybody, and becomes the rest. */
const COVER = `
  there=$(tshark -G folders 2>/dev/null | sed -n 's/^\\(Global \\)\\{0,1\\}Extcap path:[[:space:]]*//p')
  mount --bind "$1" "$there" || exit 99
  shift
  exec "$@"`;

/** A named pipe, and the file that its reader fills. */
export class Fifo {
  readonly folder = mkdtempSync(join(tmpdir(), "ringwire-fifo-"));
  readonly path = join(this.folder, "fifo");
  readonly file = join(this.folder, "read.pcapng");
  reader: Child | undefined;

  constructor() {
    outputOf("mkfifo", [this.path]);
  }

  /** Reads everything into `file`, or does `script` with the pipe $1 and the file $2. */
  read(script = 'exec cat "$1" > "$2"'): Child {
    this.reader = start(["sh", "-c", script, "sh", this.path, this.file]);
    return this.reader;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reader?.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
