/**
 * The folder of a lab on this host: logs and events of its parts, the namespaces that it makes, and
 * the lock of the command that is at work on it. What runs is not recorded here (see processes.ts).
 *
 *   /run/ringwire/LAB/            of root; LAB is NAME, or NAME@HOST in a lab with hosts
 *     lock                        held by flock(2), which the kernel frees when its holder ends
 *     namespaces.json             written before the first of them is made
 *     nic%20pc1.log .events       standard error, and the events of --json
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as z from "zod";
import * as sys from "../../shared/reactor/sys.ts";
import { Failure } from "../common/failure.ts";

const MAX_NAME_CHARS = 200;
const namespacesShape = z.array(z.string());

/** An event of a part, as --json prints it. */
export interface PartEvent {
  readonly event: string;
  readonly [field: string]: unknown;
}

/** The folder in which all labs of this user have theirs. */
function runtimeFolder(): string {
  const uid = process.geteuid?.() ?? 0;
  if (uid === 0) return "/run/ringwire";
  const own = process.env["XDG_RUNTIME_DIR"];
  return own ? join(own, "ringwire") : join(tmpdir(), `ringwire-${uid}`);
}

export class LabState {
  readonly folder: string;
  /** The folder of the lab's file. */
  readonly folderOfLab: string;
  #lock = -1;

  constructor(id: string, folderOfLab: string) {
    this.folder = join(runtimeFolder(), id);
    this.folderOfLab = folderOfLab;
  }

  get exists(): boolean {
    return existsSync(this.folder);
  }

  log(part: string): string {
    return this.#path(part, "log");
  }

  events(part: string): string {
    return this.#path(part, "events");
  }

  #path(part: string, kind: string): string {
    return join(this.folder, `${encodeURIComponent(part).slice(-MAX_NAME_CHARS)}.${kind}`);
  }

  /** Makes the folder and takes the lock. Throws Failure when another command has it. */
  lock(): void {
    const path = join(this.folder, "lock");
    for (;;) {
      this.#makeFolder();
      const fd = openSync(path, "w", 0o600);
      if (sys.flock(fd, sys.LOCK_EX | sys.LOCK_NB) !== 0) {
        closeSync(fd);
        throw new Failure(
          `another ringwire lab is at work on this lab: it holds ${path}. Wait for it, or end it`,
        );
      }
      // The holder before may have removed the folder.
      if (statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(fd).ino) {
        this.#lock = fd;
        return;
      }
      closeSync(fd);
    }
  }

  /** Others of this machine can't put a folder of theirs in place. Throws Failure. */
  #makeFolder(): void {
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    for (const folder of [runtimeFolder(), this.folder]) {
      const found = lstatSync(folder);
      if (found.isDirectory() && found.uid === process.geteuid?.()) continue;
      throw new Failure(`${folder} is no folder of this user: remove it`);
    }
  }

  unlock(): void {
    if (this.#lock >= 0) closeSync(this.#lock);
    this.#lock = -1;
  }

  /** Removes the folder, and frees the lock. */
  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
    this.unlock();
  }

  /** Names of the namespaces that the lab makes. */
  get namespaces(): string[] {
    try {
      const text = readFileSync(join(this.folder, "namespaces.json"), "utf8");
      return namespacesShape.safeParse(JSON.parse(text)).data ?? [];
    } catch {
      return [];
    }
  }

  set namespaces(names: readonly string[]) {
    const path = join(this.folder, "namespaces.json");
    writeFileSync(`${path}.new`, JSON.stringify(names), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  /** True when the part was started at some time since the last `lab down`. */
  wasStarted(part: string): boolean {
    return existsSync(this.events(part));
  }

  /** The events that a part has printed and kept. A line that is not whole yet is left out. */
  eventsOf(part: string): PartEvent[] {
    let text: string;
    try {
      text = readFileSync(this.events(part), "utf8");
    } catch {
      return [];
    }
    return text
      .slice(0, text.lastIndexOf("\n") + 1)
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .flatMap((line) => {
        try {
          return [JSON.parse(line) as PartEvent];
        } catch {
          return [];
        }
      });
  }

  /** The last lines of a part's log. */
  lastWords(part: string, lines: number): string[] {
    try {
      const text = readFileSync(this.log(part), "utf8").trimEnd();
      return text === "" ? [] : text.split("\n").slice(-lines);
    } catch {
      return [];
    }
  }
}
