/**
 * The bytes of a capture file, from a disk or a pipe. A pipe is read without blocking, and looked at
 * again and again while it has nothing: a read that waits in the thread pool for a writer that never
 * comes could not be ended, not even by process.exit.
 */
import { constants } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

/** Between looks at a pipe: short while it gives something, longer when it does not. */
const LEAST_WAIT_MS = 1;
const MOST_WAIT_MS = 32;
/** Names of what is open already, so that the end of the file is one from the beginning. */
const OPEN_ALREADY = /^\/(dev|proc)\//;

export class FileInput {
  readonly #file: FileHandle;
  /** A named pipe that has had no writer yet: then the end of the file is none. */
  #unwritten: boolean;
  #abandoned = false;

  private constructor(file: FileHandle, unwritten: boolean) {
    this.#file = file;
    this.#unwritten = unwritten;
  }

  /** Rejects with what the file system says. */
  static async open(path: string): Promise<FileInput> {
    const isPipe = (await stat(path)).isFIFO();
    const flags = constants.O_RDONLY | (isPipe ? constants.O_NONBLOCK : 0);
    return new FileInput(await open(path, flags), isPipe && !OPEN_ALREADY.test(path));
  }

  /** Fills `into` from `at` on, as far as there is something. 0: the end, or `abandon` was called. */
  async read(into: Uint8Array, at: number): Promise<number> {
    for (let wait = LEAST_WAIT_MS; !this.#abandoned; wait = Math.min(2 * wait, MOST_WAIT_MS)) {
      const bytes = await this.#tried(into, at);
      if (bytes > 0) this.#unwritten = false;
      if (bytes > 0 || (bytes === 0 && !this.#unwritten)) return bytes;
      await sleep(wait);
    }
    return 0;
  }

  /** Waits no longer for a pipe: it has ended. */
  abandon(): void {
    this.#abandoned = true;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** -1: the pipe has a writer, and nothing to read. */
  async #tried(into: Uint8Array, at: number): Promise<number> {
    try {
      return (await this.#file.read(into, at)).bytesRead;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return -1;
      throw error;
    }
  }
}
