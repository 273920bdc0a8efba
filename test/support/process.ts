/**
 * Real child processes for tests and benches. They run with the project's own Node, are watched by
 * their output, and are ended by pid. Only processes started here are ended.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import type { Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import type { Namespace } from "./netns.ts";
import { slow, WaitedTooLong } from "./slowness.ts";
import { Watchers } from "./watchers.ts";

/** The checkout's root folder. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const BIN = join(ROOT, "node_modules/.bin");
const COMPILED = "dist/cli/ringwire.js";
const SOURCE = join(ROOT, "cli/ringwire.ts");

/** The Node that npm installed, else the Node that runs this file. */
export const NODE = existsSync(join(BIN, "node")) ? join(BIN, "node") : process.execPath;

/** Characters kept of each stream; the oldest are dropped first. */
const KEEP_CHARS = 4 << 20;
/** Gives one child an empty /dev/net, or one with /dev/net/tun, whatever the machine has. */
const HIDE_TUN = "set -e; mount -t tmpfs none /dev/net";
const PREPARE_TUN = {
  missing: HIDE_TUN,
  /** For root only. */
  closed: `${HIDE_TUN}; mknod -m 600 /dev/net/tun c 10 200`,
  /** For all users, as udev makes it. */
  open: `${HIDE_TUN}; mknod -m 666 /dev/net/tun c 10 200`,
};
const DROP_RIGHTS = "setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs".split(" ");
/**
 * A wait that takes longer than this on an idle machine is a hang. `slow` extends all waits here.
 */
const HANG_MS = 30_000;
const GRACE_MS = 5000;

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface StartOptions {
  readonly namespace?: Namespace;
  /** Runs as a user without rights; needs root and the command setpriv. */
  readonly unprivileged?: boolean;
  /** The state of /dev/net/tun, for the child alone. Needs root. */
  readonly tun?: keyof typeof PREPARE_TUN;
  readonly env?: Readonly<Record<string, string>>;
  /** Root folder of another built checkout, whose program `startRingwire` runs. */
  readonly tree?: string | undefined;
}

/** The end of a text, in whole lines: half a line could be mistaken for a value. */
function kept(text: string): string {
  if (text.length <= KEEP_CHARS) return text;
  const from = text.length - KEEP_CHARS;
  return text.slice(text.indexOf("\n", from - 1) + 1 || from);
}

const running = new Set<Child>();

process.on("exit", () => {
  for (const child of running) child.signal("SIGKILL");
});

export class Child {
  readonly command: string;
  /** Undefined when the program could not be started; `exited` then reports -1. */
  readonly pid: number | undefined;
  readonly exited: Promise<Exit>;
  stdout = "";
  stderr = "";
  exit: Exit | undefined;
  readonly stdin: Writable;
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #watchers = new Watchers();

  constructor(command: string, child: ChildProcessWithoutNullStreams) {
    this.command = command;
    this.pid = child.pid;
    this.stdin = child.stdin;
    this.#process = child;
    running.add(this);

    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => {
        this[name] = kept(this[name] + text);
        this.#watchers.changed();
      });
    }
    child.stdin.on("error", () => {
      // The child ended during the write; its exit reports this.
    });
    this.exited = new Promise((resolve) => {
      const ended = (exit: Exit) => {
        if (this.exit !== undefined) return;
        this.exit = exit;
        running.delete(this);
        this.#watchers.changed();
        resolve(exit);
      };
      child.on("error", (error) => {
        this.stderr += error.message;
        if (child.pid === undefined) ended({ code: -1, signal: null });
      });
      // "close" comes after the last byte of both streams; "exit" may come earlier.
      child.on("close", (code, signal) => ended({ code, signal }));
    });
  }

  /** The content of both streams, for error messages. */
  said(): string {
    return `--- ${this.command}\n--- stdout\n${this.stdout.slice(-4000)}\n--- stderr\n${this.stderr.slice(-4000)}`;
  }

  /** Waits until `look` returns a value. Rejects, with the child's output, on its end or a hang. */
  #until<T>(what: string, look: () => T | undefined, timeoutMs = HANG_MS): Promise<T> {
    const found = (): T | undefined => {
      const value = look();
      if (value !== undefined || this.exit === undefined) return value;
      const { code, signal } = this.exit;
      throw new Error(`ended with ${signal ?? code} before ${what}\n${this.said()}`);
    };
    return this.#watchers.until(() => `${what}\n${this.said()}`, found, timeoutMs);
  }

  /** Resolves with the match as soon as either stream contains `pattern`. */
  waitFor(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray> {
    const look = () => pattern.exec(this.stderr) ?? pattern.exec(this.stdout) ?? undefined;
    return this.#until(String(pattern), look, timeoutMs);
  }

  /** Resolves with the first whole line of stdout that is a JSON object and satisfies `test`. */
  waitForJson<T>(
    test: (value: Record<string, unknown>) => boolean,
    timeoutMs?: number,
  ): Promise<T> {
    const look = () => {
      for (const line of this.stdout.split("\n").slice(0, -1)) {
        if (!line.startsWith("{")) continue;
        const value = JSON.parse(line) as Record<string, unknown>;
        if (test(value)) return value as T;
      }
      return undefined;
    };
    return this.#until("a JSON line", look, timeoutMs);
  }

  /** Writes one line to the child's stdin. */
  tell(line: string): void {
    this.stdin.write(`${line}\n`);
  }

  signal(signal: NodeJS.Signals): void {
    if (this.exit === undefined && this.pid !== undefined) this.#process.kill(signal);
  }

  /** Resolves with the exit. Rejects with the child's output on a hang. */
  ended(timeoutMs?: number): Promise<Exit> {
    return this.#until("its end", () => this.exit, timeoutMs);
  }

  /** Sends SIGTERM, and SIGKILL when the child still runs after GRACE_MS. */
  async stop(): Promise<Exit> {
    this.signal("SIGTERM");
    const timer = setTimeout(() => this.signal("SIGKILL"), slow(GRACE_MS));
    const exit = await this.exited;
    clearTimeout(timer);
    return exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Starts a program and returns at once. A failed start is reported by `exited`. */
export function start(argv: readonly string[], options: StartOptions = {}): Child {
  let full = [...(options.unprivileged ? DROP_RIGHTS : []), ...argv];
  const tun = options.tun ?? (options.unprivileged ? "open" : undefined);
  if (tun !== undefined) {
    full = ["unshare", "--mount", "sh", "-c", `${PREPARE_TUN[tun]}; exec "$@"`, "sh", ...full];
  }
  if (options.namespace !== undefined) full = options.namespace.inside(full);
  const child = spawn(full[0]!, full.slice(1), {
    cwd: ROOT,
    stdio: ["pipe", "pipe", "pipe"],
    env: {
      ...process.env,
      PATH: `${BIN}${delimiter}${process.env.PATH ?? ""}`,
      NO_COLOR: "1",
      ...options.env,
    },
  });
  return new Child(argv.join(" "), child);
}

/**
 * Starts a TypeScript file of this repository, or of the checkout `tree`, types stripped by Node
 * itself.
 */
export const startScript = (path: string, args: readonly string[], options: StartOptions = {}) =>
  start([NODE, "--no-warnings", join(options.tree ?? ROOT, path), ...args], options);

/**
 * Starts a `ringwire` command as one process: the compiled program, or the sources through tsx
 * when RINGWIRE_TEST_FROM=source.
 */
export function startRingwire(args: readonly string[], options?: StartOptions): Child {
  if (options?.tree === undefined && process.env.RINGWIRE_TEST_FROM === "source") {
    return start([NODE, "--import", import.meta.resolve("tsx"), SOURCE, ...args], options);
  }
  const compiled = join(options?.tree ?? ROOT, COMPILED);
  if (!existsSync(compiled)) throw new Error(`${compiled} is missing: npm run build comes first`);
  return start([NODE, compiled, ...args], options);
}

/** Runs a program to its end. Rejects on a hang; ignores the exit code. */
export const run = (argv: readonly string[], options?: StartOptions, timeoutMs?: number) =>
  finished(start(argv, options), timeoutMs);

/** Runs a `ringwire` command to its end. Rejects on a hang; ignores the exit code. */
export const runRingwire = (args: readonly string[], options?: StartOptions, timeoutMs?: number) =>
  finished(startRingwire(args, options), timeoutMs);

/** Waits for the end of a child. Rejects on a hang; ignores the exit code. */
export async function finished(child: Child, timeoutMs?: number): Promise<Child> {
  try {
    await child.ended(timeoutMs);
  } finally {
    child.signal("SIGKILL");
  }
  return child;
}

/**
 * Calls `look` every `everyMs` until it returns a value. Rejects with the present `what` on a hang.
 */
export async function eventually<T>(
  what: string | (() => string),
  look: () => T | undefined | Promise<T | undefined>,
  timeoutMs = HANG_MS,
  everyMs = 50,
): Promise<T> {
  const limitMs = slow(timeoutMs);
  const end = performance.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > end) throw new WaitedTooLong(limitMs, what);
    await sleep(everyMs);
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
