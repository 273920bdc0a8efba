/**
 * Wireshark's side of extcap: named pipes, and a tshark whose extcap folder holds our program.
 *
 * Root can't choose Wireshark's extcap folder (wsutil/filesystem.c reads WIRESHARK_EXTCAP_DIR only
 * for ordinary users). For root the test's folder is mounted over it, visible to this tshark alone.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { outputOf } from "./installed.ts";
import { type Child, finished, ROOT, start } from "./process.ts";

export const EXTCAP_PROGRAM = join(ROOT, "dist/cli/wireshark/plugin/ringwire-extcap");
const IS_ROOT = process.getuid?.() === 0;

/** A home directory for one Wireshark: its folders hold only the files of the test. */
export class WiresharkHome {
  readonly folder = mkdtempSync(join(tmpdir(), "ringwire-extcap-"));
  /** Its extcap folder. */
  readonly extcap = join(this.folder, "extcap");

  constructor() {
    mkdirSync(this.extcap);
  }

  /** Starts a program in this home. Programs that it starts run in this home too. */
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

/** Mounts the folder $1 over the system's extcap folder, then executes the remaining arguments. */
const COVER = `
  there=$(tshark -G folders 2>/dev/null | sed -n 's/^\\(Global \\)\\{0,1\\}Extcap path:[[:space:]]*//p')
  mount --bind "$1" "$there" || exit 99
  shift
  exec "$@"`;

/** A named pipe, and the file into which its reader writes. */
export class Fifo {
  readonly folder = mkdtempSync(join(tmpdir(), "ringwire-fifo-"));
  readonly path = join(this.folder, "fifo");
  readonly file = join(this.folder, "read.pcapng");
  reader: Child | undefined;

  constructor() {
    outputOf("mkfifo", [this.path]);
  }

  /** Starts a process that copies the pipe to `file`, or runs `script` with pipe $1 and file $2. */
  read(script = 'exec cat "$1" > "$2"'): Child {
    this.reader = start(["sh", "-c", script, "sh", this.path, this.file]);
    return this.reader;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reader?.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
